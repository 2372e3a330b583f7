from pathlib import Path

import lightning as L
import pytest

from lit_prompt.data import TargetDataModule
from lit_prompt.models import SoftPrompt


@pytest.fixture
def search():
    """Searches prompts for families or a saved set of targets; returns the module, still attached to its trainer."""

    def run(
        lm: Path, targets: list | Path, chunk_size: int = 64, max_epochs: int = -1, kind: type = SoftPrompt, **settings
    ) -> SoftPrompt:
        model = kind(lm=str(lm), **settings)
        source = {"load": targets} if isinstance(targets, Path) else {"families": targets}
        data = TargetDataModule(
            chunk_size=chunk_size, lm=str(lm), lm_options=settings.get("lm_options"), steps=model.steps, **source
        )
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, datamodule=data)
        return model

    return run
