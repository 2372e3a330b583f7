"""An evaluation that several processes make side by side: each part of the targets is a file for the first of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_prompt.data.shard import Shard
from lit_prompt.interruption import stop_if_asked
from lit_prompt.leases import Leases
from lit_prompt.records.tensors import load_tensors, write_tensors
from lit_prompt.shared_work import SharedWork

_LOOK = 0.2  # seconds until a process that waits for another looks again


class EvaluationParts:
    """The parts of an evaluation, in a folder that the first process has made, and removes when all is done.

    Args:
        folder: for them.
        shard: this process among those that evaluate.
        count: of parts.
    """

    def __init__(self, folder: Path, shard: Shard, count: int) -> None:
        self._folder, self._shard, self._count = folder, shard, count
        self._is_first = shard.index == 0

    def numbers(self) -> Iterator[int]:
        """The parts that this process makes; the first one goes on until all are made."""
        if not self._folder.is_dir():  # the others have been faster
            return
        leases = Leases(self._folder / "leases")
        order = self._shard.in_order(range(self._count))
        work = SharedWork(leases, "part", order, lambda part: self._path(part).exists())
        while True:
            if (part := work.next()) is not None:
                self._present = part
                yield part
            elif self._is_first and work.left:
                stop_if_asked()
                time.sleep(_LOOK)
            else:
                break
        leases.close()

    def keep(self, made: dict[str, Any]) -> None:
        """Keeps what was made of the present part."""
        write_tensors(made, self._path(self._present))

    def every(self) -> Iterator[dict[str, Any]]:
        """What was made of all parts, in their order; none in other processes than the first."""
        for part in range(self._count if self._is_first else 0):
            made: dict[str, Any] = load_tensors(self._path(part), "evaluate again")
            yield made

    def _path(self, part: int) -> Path:
        return self._folder / f"part_{part}.pt"
