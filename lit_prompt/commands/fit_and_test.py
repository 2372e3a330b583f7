"""A fit and its test in one process, for commands that show what was found themselves."""

import shlex
from pathlib import Path

from lit_prompt.cli.arguments import RunArguments, read_arguments
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.data.run_folder import run_folder
from lit_prompt.errors import InputError
from lit_prompt.interruption import Interrupted
from lit_prompt.results.console import silence


class _KeptFit(PromptCLI):
    """A fit whose run keeps a folder."""

    def before_fit(self) -> None:
        """Refuses a run that keeps none, or of several processes, before it is searched."""
        if run_folder(self.trainer) is None:
            raise InputError("a run's folder is kept by this command; leave trainer.fast_dev_run alone")
        if self.trainer.world_size > 1:
            raise InputError("this command is one process; set trainer.devices to 1, or use fit and test")


def fit_and_test(arguments: RunArguments) -> tuple[PromptCLI, PromptCLI, Path]:
    """Searches and evaluates, as ``fit`` and ``test`` do; only bars are shown.

    Returns:
        Both, and the run's folder.
    """
    with silence():
        fit = _KeptFit("fit", arguments)
        run = run_folder(fit.trainer)
        assert run is not None
        trusted = [f"--trust={module}" for module in sorted(arguments.modules)]
        trusted += ["--lm_options.trust_remote_code=true"] if fit.datamodule.lm_options.trust_remote_code else []
        try:
            test = PromptCLI("test", read_arguments("test", ["--run", str(run), *trusted], takes_run=True))
        except Interrupted as stop:
            command = shlex.join(["lit_prompt", "test", "--run", str(run)])
            stop.advice = f"Interrupted; what was found is kept. Evaluate it with: {command}"
            raise
    return fit, test, run
