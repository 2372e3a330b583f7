"""A set of targets on disk, memory-mapped through ``datasets``."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Target
from lit_prompt.errors import InputError

_INFO_FILE = "lit_prompt.json"
_ROWS_PER_RECORD_BATCH = 16


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
    """

    index: list[int]
    target_id: list[str]
    family: list[str]
    log_probs: Tensor
    entropy: Tensor
    metadata: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.index)


class TargetSet:
    """An ordered set of targets in a folder that ``datasets.load_from_disk`` reads.

    The distributions stay on disk and are memory-mapped: reading a batch costs that batch.

    Args:
        folder: a folder written by :meth:`write`.

    Raises:
        InputError: if the folder holds no set of targets.
    """

    def __init__(self, folder: Path) -> None:
        import datasets

        self.folder = Path(folder)
        try:
            info = json.loads((self.folder / _INFO_FILE).read_text())
            self._rows = datasets.load_from_disk(str(self.folder)).with_format("numpy")
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no saved set of targets (a folder that a fit or a build wrote)") from error
        self.vocab_size: int = info["vocab_size"]
        self.vocabulary: str = info["vocabulary"]
        self.fingerprint: str = info["fingerprint"]
        # without the distributions: reading them here would pull the whole set into memory
        facts = self._rows.select_columns(["target_id", "family", "entropy"]).with_format(None)[:]
        self.target_id: list[str] = facts["target_id"]
        self.family: list[str] = facts["family"]
        self.entropy: Tensor = torch.tensor(facts["entropy"], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.target_id)

    def batch(self, index: Sequence[int]) -> TargetBatch:
        """Reads some targets from disk.

        Args:
            index: positions in the set.

        Returns:
            The targets, in this order.
        """
        index = list(index)
        rows = self._rows[index]
        return TargetBatch(
            index=index,
            target_id=[self.target_id[i] for i in index],
            family=[self.family[i] for i in index],
            log_probs=torch.from_numpy(np.array(rows["log_probs"], dtype=np.float32)),
            entropy=self.entropy[index],
            metadata=[json.loads(str(text)) for text in rows["metadata"]],
        )

    @staticmethod
    def write(folder: Path, targets: Iterable[Target], vocab_size: int, vocabulary: str) -> "TargetSet":
        """Streams targets to a new folder and opens it.

        Args:
            folder: written whole or not at all; must not exist yet.
            targets: consumed one by one.
            vocab_size: number of tokens.
            vocabulary: fingerprint of the vocabulary that the targets are over.

        Returns:
            The set.

        Raises:
            InputError: if two targets have the same id, or there is none.
        """
        import datasets

        features = datasets.Features(
            {
                "target_id": datasets.Value("string"),
                "family": datasets.Value("string"),
                "log_probs": datasets.Sequence(datasets.Value("float32"), length=vocab_size),
                "entropy": datasets.Value("float64"),
                "seed": datasets.Value("int64"),
                "metadata": datasets.Value("string"),
            }
        )
        digest = hashlib.sha256(vocabulary.encode())
        seen: set[str] = set()
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".targets-", dir=folder.parent))
        try:
            stream = staging / "stream.arrow"
            with pa.OSFile(str(stream), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as writer:
                for block in _blocks(targets, _ROWS_PER_RECORD_BATCH):
                    for target in block:
                        if target.target_id in seen:
                            raise InputError(
                                f"two targets are called {target.target_id!r}; give each its own name "
                                "(two families of one kind: set init_args.name)"
                            )
                        seen.add(target.target_id)
                        facts = [target.target_id, target.family, target.seed, target.metadata]
                        digest.update(json.dumps(facts).encode() + target.log_probs.numpy().tobytes())
                    writer.write_table(_table(block, features.arrow_schema))
            if not seen:
                raise InputError("data.families makes no target; name at least one family of targets")
            was_enabled = datasets.is_progress_bar_enabled()
            datasets.disable_progress_bars()
            try:
                datasets.Dataset.from_file(str(stream)).save_to_disk(str(staging / "set"))
            finally:
                if was_enabled:
                    datasets.enable_progress_bars()
            info = {"vocab_size": vocab_size, "vocabulary": vocabulary, "fingerprint": digest.hexdigest()[:16]}
            (staging / "set" / _INFO_FILE).write_text(json.dumps(info, indent=1) + "\n")
            (staging / "set").rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return TargetSet(folder)


def _blocks(targets: Iterable[Target], size: int) -> Iterable[list[Target]]:
    block: list[Target] = []
    for target in targets:
        block.append(target)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _table(block: list[Target], schema: pa.Schema) -> pa.Table:
    log_probs = np.stack([target.log_probs.numpy() for target in block])
    columns = [
        pa.array([target.target_id for target in block]),
        pa.array([target.family for target in block]),
        pa.FixedSizeListArray.from_arrays(pa.array(log_probs.reshape(-1)), log_probs.shape[1]),
        pa.array([target.entropy for target in block], pa.float64()),
        pa.array([target.seed for target in block], pa.int64()),
        pa.array([json.dumps(target.metadata) for target in block]),
    ]
    return pa.Table.from_arrays(columns, names=schema.names).cast(schema)
