"""``lit_prompt pretrain``: the training of an LM from the command line."""

import shlex
from collections.abc import Sequence

from lightning.pytorch.callbacks import LearningRateMonitor

from lit_prompt.cli.arguments import RunArguments, read_arguments
from lit_prompt.cli.run import RunCLI
from lit_prompt.pretrain.datamodule import TextDataModule
from lit_prompt.pretrain.module import CausalLMTraining
from lit_prompt.results.console import console, say


class PretrainCLI(RunCLI):
    """Trains an LM and its tokenizer."""

    commands = {"fit": "Trains a causal LM and its tokenizer from a text."}
    usage = "lit_prompt pretrain --config FILE [--run FOLDER] [--data.texts.path FILE] [--KEY VALUE ...]"
    epilog = "Trains a causal LM from random weights; the finished LM is a folder that --lm takes."

    def __init__(self, arguments: RunArguments) -> None:
        defaults = {
            "max_epochs": 1,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            "callbacks": [LearningRateMonitor()],
        }
        super().__init__(CausalLMTraining, TextDataModule, "fit", arguments, defaults)

    def after_fit(self) -> None:
        """Says where the LM is."""
        for name, value in self.trainer.callback_metrics.items():
            if name.startswith("val/"):
                console.print(f"{name.removeprefix('val/')}   {float(value):.4f} on held-out text", soft_wrap=True)
        if (folder := self.model.folder) is not None and folder.exists():
            say(f"LM   {folder}", "", "Next:")
            say(f"  lit_prompt fit --config configs/demo.yaml --lm {shlex.quote(str(folder))}")


def main(args: Sequence[str]) -> None:
    """Runs ``lit_prompt pretrain`` with the arguments that follow it on the command line.

    Raises:
        InputError: after a mistake of the user.
    """
    PretrainCLI(read_arguments("pretrain", args, takes_run=True))
