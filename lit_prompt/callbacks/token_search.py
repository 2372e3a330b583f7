"""The search for hard prompts, as a callback."""

from typing import Any

import lightning as L

from lit_prompt.models import HardPrompt
from lit_prompt.search import ChunkSearch


class TokenSearch(L.Callback):
    """Drives the token search of a :class:`HardPrompt`, which has no parameters that an optimizer could move.

    A step of the search is made before each batch, so that whatever follows sees its results. What the search carries
    from step to step is the callback's state; what it has found is the module's.
    """

    def __init__(self) -> None:
        self._search: ChunkSearch | None = None
        self._chunk: int | None = None
        self._restored: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins a chunk, or goes on with that of a checkpoint; then makes a step, unless all searches have ended."""
        assert isinstance(pl_module, HardPrompt)
        if self._search is None or self._chunk != trainer.current_epoch:
            restored = self._restored if self._chunk == trainer.current_epoch else None
            self._search = pl_module.chunk_search(batch, restored)
            self._chunk, self._restored = trainer.current_epoch, None
        pl_module.took_step = bool(self._search.best.running.any())
        if pl_module.took_step:
            self._search.step()

    def state_dict(self) -> dict[str, Any]:
        """What the search of the chunk carries from step to step."""
        return {} if self._search is None else {"chunk": self._chunk, **self._search.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps it for the first batch, when the targets are at hand."""
        if state_dict:
            self._chunk = state_dict["chunk"]
            self._restored = state_dict
