"""``lit_prompt targets build``: the targets of a config, made once and saved."""

import shlex
from argparse import Namespace

from lit_prompt.cli.parser import writing
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.errors import InputError
from lit_prompt.interruption import Interrupted
from lit_prompt.results.console import say
from lit_prompt.results.targets_shown import print_remarks, print_summary
from lit_prompt.under_way import sweep


def run(options: Namespace) -> None:
    """Builds and saves a set of targets, and says what it holds."""
    folder = options.out
    sweep(folder.parent)
    if folder.exists():
        raise InputError(f"--out: {folder} exists; targets are never overwritten, name another folder")
    data = PromptCLI(None, options.settings).datamodule
    if data.load is not None:
        raise InputError(f"data.load is {data.load}: these targets are built already; remove it to build data.families")
    try:
        with writing(folder):
            targets = data.build(folder)
    except Interrupted as stop:
        stop.kept = f"no target was written to {folder}"
        raise
    print_summary(targets)
    print_remarks(targets.rejected, data.notes)
    quoted = shlex.quote(str(folder))
    config = "".join(f" --config {shlex.quote(str(given.path))}" for given in options.settings.configs)
    say("", f"targets   {folder}", "", "Next:", f"  lit_prompt targets show {quoted}    # table and picture")
    say(f"  lit_prompt fit{config} --data.load {quoted}")
