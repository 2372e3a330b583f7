"""A set of targets on disk, memory-mapped through ``datasets``."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.target_table import dense_log_probs, stored_targets, target_blocks, target_features, target_table
from lit_prompt.errors import InputError

_INFO_FILE = "lit_prompt.json"
_FORMAT = 2  # 1 had dense targets only
_ROWS_PER_READ = 64


@dataclass
class TargetBatch:
    """Some targets of a set, dense; each field but ``index`` stacks the attribute of a :class:`Target` of its name."""

    index: list[int]  #: positions in the set
    target_id: list[str]
    family: list[str]
    log_probs: Tensor  #: ``[item, vocab]``, float32
    entropy: Tensor  #: nats, ``[item]``, float64
    metadata: list[dict[str, Any]]
    partner_of: list[str | None]
    before: list[str | None]
    after: list[str | None]

    def __len__(self) -> int:
        return len(self.index)

    def answers(self, item: int) -> dict[int, str]:
        """Of one of these targets, the texts of several tokens that a token stands for, by its id."""
        return {token_id: text for text, token_id in self.metadata[item].get("first_tokens", {}).items()}

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 over each distribution, 16 hexadecimal digits: what a target is, whatever its id."""
        rows = self.log_probs.contiguous().numpy()
        return [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows]


class TargetSet:
    """An ordered set of targets in a folder that ``datasets.load_from_disk`` reads.

    The distributions stay on disk and are memory-mapped: reading a batch costs that batch. What else a
    :class:`Target` has, but for its seed and metadata, is at hand as a list (entropies in nats, ``[target]``, float64).

    Raises:
        InputError: if the folder holds no set of targets that can be read, as :meth:`write` writes it.
    """

    def __init__(self, folder: Path) -> None:
        import datasets

        self.folder = Path(folder)
        try:
            info = self._info = json.loads((self.folder / _INFO_FILE).read_text())
            self.vocabulary: str = info["vocabulary"]  #: fingerprint of the vocabulary that the targets are over
            if info.get("format") != _FORMAT:
                raise InputError(
                    f"{folder}: these targets were saved by another version of lit_prompt; build them again"
                )
            self._rows = datasets.load_from_disk(str(self.folder)).with_format("arrow")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)") from error
        self.vocab_size: int = info["vocab_size"]
        self.lm: str | None = info["lm"]  #: hub id or folder of the LM whose vocabulary it is; None where not named
        self.fingerprint: str = info["fingerprint"]  #: changes with everything that a search depends on
        self.rejected = [Rejected(**rejected) for rejected in info["rejected"]]
        # without the distributions: reading them here would pull the whole set into memory
        names = ["target_id", "family", "entropy", "partner_of", "before", "after"]
        columns = self._rows.select_columns(names)[:].to_pydict()
        self.target_id: list[str] = columns["target_id"]
        self.family: list[str] = columns["family"]
        self.entropy = torch.tensor(columns["entropy"], dtype=torch.float64)
        self.partner_of: list[str | None] = columns["partner_of"]
        self.before: list[str | None] = columns["before"]
        self.after: list[str | None] = columns["after"]

    def __len__(self) -> int:
        return len(self.target_id)

    def batch(self, index: Sequence[int]) -> TargetBatch:
        """Reads the targets at some positions, in this order; dense, whatever they are on disk."""
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

    def stored(self) -> Iterator[Target]:
        """All targets in their order, each sparse where it is sparse on disk; some are in memory at a time."""
        for start in range(0, len(self), _ROWS_PER_READ):
            yield from stored_targets(self._rows[start : start + _ROWS_PER_READ])

    def select(self, index: Sequence[int], folder: Path) -> "TargetSet":
        """Saves the targets at some positions as a set of their own, in a folder that must not exist yet."""
        index = list(index)
        with _new_folder(folder) as (staging, write):
            for start in range(0, len(index), _ROWS_PER_READ):
                write(self._rows[index[start : start + _ROWS_PER_READ]])
            digest = hashlib.sha256(json.dumps([self.fingerprint, index]).encode()).hexdigest()[:16]
            _write_info(staging, self._info | {"fingerprint": digest, "rejected": []})
        return TargetSet(folder)

    @staticmethod
    def write(
        folder: Path, targets: Iterable[Target | Rejected], vocab_size: int, vocabulary: str, lm: str | None = None
    ) -> "TargetSet":
        """Streams targets to a folder that must not exist yet, whole or not at all, and opens it.

        Rejected targets are listed, not stored. ``vocabulary`` is the vocabulary's fingerprint, ``lm`` the hub id or
        folder of its LM.

        Raises:
            InputError: if two targets have the same id, or there is none.
        """
        seen: set[str] = set()
        rejected: list[Rejected] = []
        digest = hashlib.sha256(vocabulary.encode())

        def accepted() -> Iterator[Target]:
            for item in targets:
                if item.target_id in seen:
                    raise InputError(
                        f"two targets are called {item.target_id!r}; give each its own name "
                        "(two families of one kind: set init_args.name)"
                    )
                seen.add(item.target_id)
                if isinstance(item, Rejected):
                    rejected.append(item)
                else:
                    digest.update(_contents(item, vocab_size))
                    yield item

        with _new_folder(Path(folder)) as (staging, write):
            for block in target_blocks(accepted()):
                write(target_table(block))
            if not seen:
                raise InputError("data.families makes no target; name at least one family of targets")
            if len(seen) == len(rejected):
                raise InputError(
                    f"none of the {len(seen)} targets could be made; the first, {rejected[0].target_id}: "
                    f"{rejected[0].reason}"
                )
            info = {"format": _FORMAT, "vocab_size": vocab_size, "vocabulary": vocabulary, "lm": lm}
            info |= {"fingerprint": digest.hexdigest()[:16], "rejected": [asdict(item) for item in rejected]}
            _write_info(staging, info)
        return TargetSet(folder)


def _contents(target: Target, vocab_size: int) -> bytes:
    """All that a search depends on."""
    listed = vocab_size if target.token_ids is None else len(target.token_ids)
    if len(target.log_probs) != listed:
        raise ValueError(f"{target.target_id}: {len(target.log_probs)} log-probabilities for {listed} tokens")
    sparse = None if target.token_ids is None else [listed, target.rest_log_prob]
    facts = [target.target_id, target.family, target.seed, target.metadata, sparse]
    facts += [target.partner_of, target.before, target.after]
    ids = b"" if target.token_ids is None else target.token_ids.numpy().tobytes()
    return json.dumps(facts).encode() + target.log_probs.numpy().tobytes() + ids


def _write_info(folder: Path, info: dict[str, Any]) -> None:
    (folder / _INFO_FILE).write_text(json.dumps(info, indent=1) + "\n")


@contextmanager
def _new_folder(folder: Path) -> Iterator[tuple[Path, Callable[[pa.Table], None]]]:
    """A folder of ``datasets`` to be filled, and what writes rows to it; it takes its place whole or not at all.

    An empty dataset is saved, and the rows are written in place of its data: ``datasets`` would copy them.
    """
    import datasets

    features = target_features()
    empty = datasets.Dataset.from_dict({name: [] for name in features}, features=features)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".targets-", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        staging = Path(temporary) / "set"
        had_bars = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            empty.save_to_disk(str(staging), num_shards=1)
        finally:
            if had_bars:
                datasets.enable_progress_bars()
        (data,) = staging.glob("*.arrow")
        with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as writer:
            yield staging, writer.write_table
        staging.rename(folder)
