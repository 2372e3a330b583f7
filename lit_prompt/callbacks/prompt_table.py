"""Hard prompts over time, as text in TensorBoard."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.models.chunk import progress, score_label
from lit_prompt.models.driven import DrivenPrompt
from lit_prompt.results.markdown import prompt_table

_TABLES = 20
_ROWS = 24


class PromptTable(L.Callback):
    """Logs the best hard prompts so far as a table of texts and scores, some twenty times a chunk."""

    def __init__(self) -> None:
        self._logged: tuple[int | None, int] | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the chunk's table when it is time."""
        if (
            isinstance(pl_module, DrivenPrompt)
            and (pl_module.chunks.made - 1) % max(1, pl_module.steps // _TABLES) == 0
        ):
            self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the table that the chunk ends with."""
        if isinstance(pl_module, DrivenPrompt):
            self._log(trainer, pl_module)

    def _log(self, trainer: L.Trainer, module: DrivenPrompt) -> None:
        chunk, step = now = module.chunks.chunk, module.chunks.step
        if not isinstance(trainer.logger, TensorBoardLogger) or self._logged == now or module.data.part.index:
            return  # the chunk's last step may have been shown
        self._logged = now
        index, _ = progress(module)
        task_ids = [module.data.targets.task_ids[i] for i in index]
        rows = list(zip(task_ids, *module.best_texts(), strict=True))
        table = prompt_table(rows[:_ROWS], score_label(module))
        if len(rows) > _ROWS:
            table += f"\n\n... and {len(rows) - _ROWS} more"
        trainer.logger.experiment.add_text(f"prompts/chunk_{chunk}", table, step)
