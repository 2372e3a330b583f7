"""What is told before anything takes long."""

import lightning as L

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.run_folder import run_folder
from lit_prompt.results.console import say


class Opening(L.Callback):
    """Says how many targets there are, as soon as they are there, and the run's folder."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Prints both."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, TargetDataModule):
            count = len(data.targets)
            say(f"targets   {count}, {min(count, data.chunk_size)} at a time")
        if (folder := run_folder(trainer)) is not None:
            say(f"folder    {folder}")
