"""The search for hard prompts, as a callback."""

import time
from typing import TYPE_CHECKING, Any

import lightning as L

from lit_prompt.interruption import interruptible
from lit_prompt.search import BestSoFar, ChunkSearch

if TYPE_CHECKING:
    from lit_prompt.models.mixture_search import MixtureSearch


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
        self._search: ChunkSearch | MixtureSearch | None = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins a chunk, or goes on with one; then makes a step, unless all searches have ended."""
        if self._search is None or not pl_module.is_searching:
            self._search = self._begin(pl_module, batch)
            self.current = list(batch.tasks), self._search.best
            pl_module.begun = pl_module.chunks.chunk
        self.stepped = bool(self._search.best.running.any()) and pl_module.chunks.made < pl_module.steps
        if self.stepped:
            self._search.step()

    def _begin(self, module: Any, batch: Any) -> "ChunkSearch | MixtureSearch":
        started = time.perf_counter()
        with interruptible():  # nothing is kept of a beginning
            state = module.chunks.take_up()
            search, starts = module.new_search(batch)
            if state is None:
                search.init(*starts(), time.perf_counter() - started)
            else:
                search.load_state_dict(state)
                module.take_up(state)
        found: ChunkSearch | MixtureSearch = search
        return found

    def release(self) -> None:
        """Drops what only more steps would need."""
        if self._search is not None:
            self._search.release()

    def chunk_state(self) -> dict[str, Any]:
        """What the search of the chunk carries from step to step."""
        assert self._search is not None
        return self._search.state_dict()
