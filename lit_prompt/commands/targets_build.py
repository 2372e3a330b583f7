"""``lit_prompt targets build``: the targets of a config, made once and saved."""

from collections.abc import Sequence
from pathlib import Path

from lit_prompt.commands.data_cli import DataCLI
from lit_prompt.errors import InputError
from lit_prompt.main import check_yaml, config_files
from lit_prompt.results.console import console, say
from lit_prompt.results.targets_shown import print_remarks, print_summary


def build_targets(folder: Path, args: Sequence[str]) -> None:
    """Builds and saves a set of targets, and says what it holds.

    Args:
        folder: to be made.
        args: options of ``fit``.

    Raises:
        InputError: if the folder exists or cannot be made, or the settings are wrong.
    """
    if folder.exists():
        raise InputError(f"--out: {folder} exists; targets are never overwritten, name another folder")
    configs = config_files(args)
    check_yaml(configs)
    data = DataCLI(["fit", *args], None, name="targets").datamodule
    if data.load is not None:
        raise InputError(f"data.load is {data.load}: these targets are built already; remove it to build data.families")
    try:
        with console.status(f"building {folder}"):
            targets = data.build(folder)
    except OSError as error:
        raise InputError(f"--out: {folder} cannot be written ({error.strerror})") from error
    print_summary(targets)
    print_remarks(targets.rejected, data.notes)
    config = f" --config {configs[-1]}" if configs else ""
    say("", f"targets   {folder}", "", "Next:", f"  lit_prompt targets show {folder}    # table and picture")
    say(f"  lit_prompt fit{config} --data.load {folder}")
