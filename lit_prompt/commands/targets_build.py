"""``lit_prompt targets build``: the targets of a config, made once and saved."""

from pathlib import Path

from lit_prompt.cli.arguments import RunArguments
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.errors import InputError
from lit_prompt.results.console import console, say
from lit_prompt.results.targets_shown import print_remarks, print_summary


def build_targets(folder: Path, arguments: RunArguments) -> None:
    """Builds and saves a set of targets, and says what it holds.

    Args:
        folder: to be made.
        arguments: options of ``fit``.

    Raises:
        InputError: if the folder exists or cannot be made, or the settings are wrong.
    """
    if folder.exists():
        raise InputError(f"--out: {folder} exists; targets are never overwritten, name another folder")
    data: TargetDataModule = PromptCLI(None, arguments).datamodule
    if data.load is not None:
        raise InputError(f"data.load is {data.load}: these targets are built already; remove it to build data.families")
    try:
        with console.status(f"building {folder}"):
            targets = data.build(folder)
    except OSError as error:
        raise InputError(f"--out: {folder} cannot be written ({error.strerror})") from error
    print_summary(targets)
    print_remarks(targets.rejected, data.notes)
    config = "".join(f" --config {path}" for path in arguments.configs)
    say("", f"targets   {folder}", "", "Next:", f"  lit_prompt targets show {folder}    # table and picture")
    say(f"  lit_prompt fit{config} --data.load {folder}")
