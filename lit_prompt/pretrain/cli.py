"""``lit_prompt pretrain``: the training of an LM from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import ArgsType

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.data.texts import TextSource
from lit_prompt.main import check_yaml, config_files, expand_run
from lit_prompt.pretrain.datamodule import TextDataModule
from lit_prompt.pretrain.module import CausalLMTraining
from lit_prompt.results.console import console
from lit_prompt.run_cli import RunCLI


class PretrainCLI(RunCLI):
    """Trains an LM and its tokenizer.

    Args:
        args: ``fit`` and options, after :func:`lit_prompt.main.expand_run`.
        run_folder: folder of the run that is gone on with; None for a new run.
        name: name of a new run's folder in ``logs``.
    """

    commands = ("fit",)
    groups = {
        "model": CausalLMTraining,
        "data": TextDataModule,
        "data.texts": TextSource,
        "trainer": L.Trainer,
        "checkpoint": SearchCheckpoint,
    }
    usage = "lit_prompt pretrain --config FILE [--run FOLDER] [--data.texts.path FILE] [--KEY VALUE ...]"
    epilog = "Trains a causal LM from random weights; the finished LM is a folder that --lm takes."

    def __init__(self, args: ArgsType, run_folder: Path | None, name: str) -> None:
        defaults = {
            "max_epochs": 1,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            "callbacks": [LearningRateMonitor()],
        }
        super().__init__(CausalLMTraining, TextDataModule, args, run_folder, name, defaults)

    def fit(self, **kwargs: Any) -> None:
        """Trains, and says where the LM is."""
        super().fit(**kwargs)
        for name, value in self.trainer.callback_metrics.items():
            if name.startswith("val/"):
                console.print(f"{name.removeprefix('val/')}   {float(value):.4f} on held-out text", soft_wrap=True)
        if (folder := self.model.folder) is not None and folder.exists():
            console.print(
                f"LM   {folder}\n\nNext:\n  lit_prompt fit --config configs/demo.yaml --lm {folder}", soft_wrap=True
            )


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt pretrain``.

    Args:
        args: what follows ``pretrain`` on the command line.

    Raises:
        InputError: after a mistake of the user.
    """
    expanded, folder = expand_run(["fit", *args])
    configs = config_files(expanded)
    check_yaml(configs)
    PretrainCLI(expanded, folder, name=Path(configs[-1]).stem if configs else "pretrain")
