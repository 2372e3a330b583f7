"""A set of targets on disk, memory-mapped through ``datasets``."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_table import dense_log_probs, target_blocks, target_features, target_table
from lit_prompt.errors import InputError

_INFO_FILE = "lit_prompt.json"
_FORMAT = 2  # 1 had dense targets only


@dataclass
class TargetBatch:
    """Some targets of a set, stacked.

    Attributes:
        index: positions in the set.
        target_id: ids.
        family: family names.
        log_probs: ``[item, vocab]``, float32.
        entropy: nats, ``[item]``, float64.
        metadata: one dictionary a target.
        partner_of: id of the target that each is to be compared with, or None.
        before: text before the prompt, or None for the module's.
        after: text after the prompt, or None for the module's.
    """

    index: list[int]
    target_id: list[str]
    family: list[str]
    log_probs: Tensor
    entropy: Tensor
    metadata: list[dict[str, Any]]
    partner_of: list[str | None]
    before: list[str | None]
    after: list[str | None]

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 over each distribution, 16 hexadecimal digits: what a target is, whatever its id."""
        rows = self.log_probs.contiguous().numpy()
        return [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows]


class TargetSet:
    """An ordered set of targets in a folder that ``datasets.load_from_disk`` reads.

    The distributions stay on disk and are memory-mapped: reading a batch costs that batch.

    Args:
        folder: a folder written by :meth:`write`.

    Attributes:
        vocab_size: number of tokens.
        vocabulary: fingerprint of the vocabulary that the targets are over.
        lm: hub id or folder of the LM that the vocabulary is of; None where none was named.
        fingerprint: changes with everything that a search depends on.
        rejected: targets that were to be in the set, but could not be made.
        target_id: ids.
        family: family names.
        entropy: nats, ``[target]``, float64.
        partner_of: id of the target that each is to be compared with, or None.
        before: text before the prompt, or None for the module's.
        after: text after the prompt, or None for the module's.

    Raises:
        InputError: if the folder holds no set of targets that can be read.
    """

    def __init__(self, folder: Path) -> None:
        import datasets

        self.folder = Path(folder)
        info = _read_info(self.folder)
        try:
            self._rows = datasets.load_from_disk(str(self.folder)).with_format("arrow")
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)") from error
        self.vocab_size: int = info["vocab_size"]
        self.vocabulary: str = info["vocabulary"]
        self.lm: str | None = info["lm"]
        self.fingerprint: str = info["fingerprint"]
        self.rejected = [Rejected(**rejected) for rejected in info["rejected"]]
        # without the distributions: reading them here would pull the whole set into memory
        facts = self._rows.select_columns(["target_id", "family", "entropy", "partner_of", "before", "after"])[:]
        self.target_id: list[str] = facts["target_id"].to_pylist()
        self.family: list[str] = facts["family"].to_pylist()
        self.entropy: Tensor = torch.tensor(facts["entropy"].to_numpy())
        self.partner_of: list[str | None] = facts["partner_of"].to_pylist()
        self.before: list[str | None] = facts["before"].to_pylist()
        self.after: list[str | None] = facts["after"].to_pylist()

    def __len__(self) -> int:
        return len(self.target_id)

    def batch(self, index: Sequence[int]) -> TargetBatch:
        """Reads some targets from disk.

        Args:
            index: positions in the set.

        Returns:
            The targets, in this order; dense, whatever they are on disk.
        """
        index = list(index)
        rows: pa.Table = self._rows[index]
        return TargetBatch(
            index=index,
            target_id=[self.target_id[i] for i in index],
            family=[self.family[i] for i in index],
            log_probs=dense_log_probs(rows, self.vocab_size),
            entropy=self.entropy[index],
            metadata=[json.loads(text) for text in rows["metadata"].to_pylist()],
            partner_of=[self.partner_of[i] for i in index],
            before=rows["before"].to_pylist(),
            after=rows["after"].to_pylist(),
        )

    def select(self, index: Sequence[int], folder: Path) -> "TargetSet":
        """Saves some of the targets as a set of their own.

        Args:
            index: positions in the set.
            folder: must not exist yet.
        """
        index = list(index)
        _save_dataset(self._rows.with_format(None).select(index), folder)
        info = _read_info(self.folder)
        digest = hashlib.sha256(json.dumps([self.fingerprint, index]).encode()).hexdigest()[:16]
        (folder / _INFO_FILE).write_text(json.dumps(info | {"fingerprint": digest, "rejected": []}, indent=1) + "\n")
        return TargetSet(folder)

    @staticmethod
    def write(
        folder: Path, targets: Iterable[Target | Rejected], vocab_size: int, vocabulary: str, lm: str | None = None
    ) -> "TargetSet":
        """Streams targets to a new folder and opens it.

        Args:
            folder: written whole or not at all; must not exist yet.
            targets: consumed one by one; rejected ones are listed, not stored.
            vocab_size: number of tokens.
            vocabulary: fingerprint of the vocabulary that the targets are over.
            lm: hub id or folder of the LM that the vocabulary is of.

        Returns:
            The set.

        Raises:
            InputError: if two targets have the same id, or there is none.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".targets-", dir=folder.parent))
        try:
            schema = target_features().arrow_schema
            source = _Accepted(targets, vocab_size, vocabulary)
            with pa.OSFile(str(staging / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                for block in target_blocks(source):
                    writer.write_table(target_table(block, schema))
            source.check_any()
            _save_rows(staging / "stream.arrow", staging / "set")
            info = {
                "format": _FORMAT,
                "vocab_size": vocab_size,
                "vocabulary": vocabulary,
                "lm": lm,
                "fingerprint": source.digest.hexdigest()[:16],
                "rejected": [asdict(rejected) for rejected in source.rejected],
            }
            (staging / "set" / _INFO_FILE).write_text(json.dumps(info, indent=1) + "\n")
            (staging / "set").rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return TargetSet(folder)


class _Accepted:
    """Passes the targets of a source on, checked and digested, and keeps the rejected ones."""

    def __init__(self, source: Iterable[Target | Rejected], vocab_size: int, vocabulary: str) -> None:
        self._source = source
        self._vocab_size = vocab_size
        self._seen: set[str] = set()
        self.digest = hashlib.sha256(vocabulary.encode())
        self.rejected: list[Rejected] = []

    def __iter__(self) -> Iterator[Target]:
        for item in self._source:
            if item.target_id in self._seen:
                raise InputError(
                    f"two targets are called {item.target_id!r}; give each its own name "
                    "(two families of one kind: set init_args.name)"
                )
            self._seen.add(item.target_id)
            if isinstance(item, Rejected):
                self.rejected.append(item)
                continue
            self._digest(item)
            yield item

    def _digest(self, target: Target) -> None:
        listed = self._vocab_size if target.token_ids is None else len(target.token_ids)
        if len(target.log_probs) != listed:
            raise ValueError(f"{target.target_id}: {len(target.log_probs)} log-probabilities for {listed} tokens")
        sparse = None if target.token_ids is None else [listed, target.rest_log_prob]
        facts = [target.target_id, target.family, target.seed, target.metadata, sparse]
        facts += [target.partner_of, target.before, target.after]
        self.digest.update(json.dumps(facts).encode() + target.log_probs.numpy().tobytes())
        if target.token_ids is not None:
            self.digest.update(target.token_ids.numpy().tobytes())

    def check_any(self) -> None:
        """Refuses a source without a target to search for."""
        if len(self._seen) > len(self.rejected):
            return
        if not self.rejected:
            raise InputError("data.families makes no target; name at least one family of targets")
        first = self.rejected[0]
        raise InputError(
            f"none of the {len(self.rejected)} targets could be made; the first, {first.target_id}: {first.reason}"
        )


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / _INFO_FILE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)") from error
    if not isinstance(info, dict) or "vocabulary" not in info:
        raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)")
    if info.get("format") != _FORMAT:
        raise InputError(f"{folder}: these targets were saved by another version of lit_prompt; build them again")
    return info


def _save_rows(stream: Path, folder: Path) -> None:
    """Makes a folder for ``datasets`` around an Arrow stream, without copying it.

    An empty dataset is saved, and the stream takes the place of its data.
    """
    import datasets

    features = target_features()
    _save_dataset(datasets.Dataset.from_dict({name: [] for name in features}, features=features), folder)
    (data,) = folder.glob("*.arrow")
    stream.rename(data)


def _save_dataset(rows: Any, folder: Path) -> None:
    """Saves a dataset in one file, without a progress bar."""
    import datasets

    was_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        rows.save_to_disk(str(folder), num_shards=1)
    finally:
        if was_enabled:
            datasets.enable_progress_bars()
