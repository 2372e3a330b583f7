from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.lm import LMOptions
from lit_prompt.models import HardPrompt, PromptModule, SoftPrompt


def _searches(module_class: type[PromptModule]) -> Callable[..., PromptModule]:
    """What searches prompts for families or a saved set of targets, and returns the module."""

    def run(
        lm: Path,
        targets: list | Path,
        chunk_size: int = 64,
        max_epochs: int = -1,
        kind: type[PromptModule] = module_class,
        lm_options: LMOptions | None = None,
        **settings,
    ) -> PromptModule:
        model = kind(**settings)
        source = {"load": targets} if isinstance(targets, Path) else {"families": targets}
        data = TargetDataModule(chunk_size=chunk_size, lm=str(lm), lm_options=lm_options, **source)
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


@pytest.fixture
def search() -> Callable[..., PromptModule]:
    """Searches soft prompts; returns the module, still attached to its trainer."""
    return _searches(SoftPrompt)


@pytest.fixture
def search_hard() -> Callable[..., PromptModule]:
    """Searches hard prompts; returns the module, still attached to its trainer."""
    return _searches(HardPrompt)
