"""The search for hard prompts, as a callback."""

import time
from typing import Any

import lightning as L

from lit_prompt.interruption import interruptible
from lit_prompt.search import BestSoFar, ChunkSearch


class TokenSearch(L.Callback):
    """Owns the token search of a :class:`lit_prompt.models.HardPrompt`, which has no parameters to optimise.

    A step of the search is made before each batch, so that whatever follows sees its results.

    Attributes:
        current: numbers of the tasks of the chunk under search, and the bests of its slots; None before the first.
        stepped: whether a step was made before the present batch; if not, all searches of the chunk have ended.
    """

    def __init__(self) -> None:
        self.current: tuple[list[int], BestSoFar] | None = None
        self.stepped = False
        self._search: ChunkSearch | None = None
        self._chunk: int | None = None
        self._restored: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins a chunk, or resumes that of a checkpoint; then makes a step, unless all searches have ended."""
        if self._search is None or self._chunk != trainer.current_epoch:
            self._search = self._begin(trainer.current_epoch, pl_module, batch)
            self.current = list(batch.tasks), self._search.best
        self.stepped = bool(self._search.best.running.any())
        if self.stepped:
            self._search.step()

    def _begin(self, chunk: int, module: Any, batch: Any) -> ChunkSearch:
        started = time.perf_counter()
        with interruptible():  # nothing is kept of a beginning
            search, starts = module.new_search(batch)
            if self._restored is not None and self._chunk == chunk:
                search.load_state_dict(self._restored)
            elif module.extended_from:
                search.load_state_dict(module.ended_chunks.read(module.extended_from, chunk))
            else:
                search.init(*starts(), time.perf_counter() - started)
        self._chunk, self._restored = chunk, None
        found: ChunkSearch = search
        return found

    def release(self) -> None:
        """Drops what only more steps would need."""
        if self._search is not None:
            self._search.release()

    def state_dict(self) -> dict[str, Any]:
        """What the search of the chunk carries from step to step."""
        return {} if self._search is None else {"chunk": self._chunk, **self._search.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps it for the first batch, when the targets are at hand."""
        if state_dict:
            self._chunk = state_dict["chunk"]
            self._restored = state_dict
