"""Hard prompts over time, as text in TensorBoard."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from lit_prompt.models import HardPrompt
from lit_prompt.results.markdown import prompt_table

_TABLES = 20
_ROWS = 24


class PromptTable(L.Callback):
    """Logs the best prompts so far as a table of texts and scores, some twenty times a chunk."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the chunk's table when it is time."""
        assert isinstance(pl_module, HardPrompt)
        if isinstance(trainer.logger, TensorBoardLogger) and batch_idx % max(1, pl_module.steps // _TABLES) == 0:
            self._log(trainer.logger, trainer, pl_module, batch.target_id)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the table that the chunk ends with."""
        assert isinstance(pl_module, HardPrompt)
        if isinstance(trainer.logger, TensorBoardLogger):
            index, _ = pl_module.progress()
            self._log(trainer.logger, trainer, pl_module, [pl_module.targets.target_id[i] for i in index])

    def _log(self, logger: TensorBoardLogger, trainer: L.Trainer, module: HardPrompt, target_ids: list[str]) -> None:
        rows = list(zip(target_ids, *module.best_texts(), strict=True))[:_ROWS]
        name = f"prompts/chunk_{trainer.current_epoch}"
        logger.experiment.add_text(name, prompt_table(rows), trainer.global_step)
