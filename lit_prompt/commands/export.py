"""``lit_prompt export``: a run's prompts as files of other programs."""

from argparse import Namespace
from dataclasses import replace

import torch

from lit_prompt.cli.arguments import read_arguments
from lit_prompt.cli.parser import writing
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.export.exporter import TOLERANCES, Exporter
from lit_prompt.export.found_prompts import FoundPrompts
from lit_prompt.results.console import print_table, say
from lit_prompt.results.rows import MOST_NAMED
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats


def run_data(options: Namespace, command: str) -> TargetDataModule:
    """The targets of the run that ``--run`` names; other options are those of ``test``."""
    arguments = read_arguments(command, ["--run", str(options.run), *options.rest], takes_run=True)
    targets = [f"--data.load={options.run / 'targets'}"] if (options.run / "targets").is_dir() else []
    return PromptCLI(None, replace(arguments, options=[*arguments.options, *targets], run_folder=None)).datamodule


def run(options: Namespace) -> None:
    """Exports, reads back, and prints what was found."""
    found = FoundPrompts(options.run, run_data(options, "export"))
    numbers = found.numbers(options.targets)
    exporter = Exporter(found, options.format, None if options.dtype is None else getattr(torch, options.dtype))
    with writing(options.out):
        rows = exporter.export(numbers, options.out, options.script)
    if len(rows) <= MOST_NAMED:
        cells = [[row["target_id"], nats(row["kl"], 5), nats(row["kl_read_back"], 5)] for row in rows]
        print_table(Table(["target", "KL", "KL read back"], cells, ["target"], caption=""))
    kind = str(exporter.dtype).removeprefix("torch.")
    if (why_not := exporter.why_not_read) is not None:
        say(f"not read back: {why_not}")
    else:
        moved = max(rows, key=lambda row: abs(row["kl"] - row["kl_read_back"]))
        most = abs(moved["kl"] - moved["kl_read_back"])
        say(
            f"read back with {'PEFT' if options.format == 'peft' else 'transformers'} in {kind}: KLs differ by at most "
            f"{most:.1e} nats ({moved['target_id']}); {TOLERANCES[exporter.dtype]} are allowed, for rounding"
        )
    say(f"what was found for {len(rows)} target{'s' * (len(rows) != 1)} is in {options.out}")
    if options.script:
        say(f"  python {options.out / 'reach.py'}    # what the first of them reaches, with transformers alone")
