"""``lit_prompt shortest``: the shortest prompt that reaches a KL, by a run for each length."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from lit_prompt.commands.fit_and_test import fit_and_test
from lit_prompt.errors import InputError
from lit_prompt.files import add_file
from lit_prompt.interruption import Interrupted
from lit_prompt.models import HardPrompt, PromptModule
from lit_prompt.models.token_floors import token_floor_curves
from lit_prompt.records.results import read_results
from lit_prompt.records.table_format import COUNT, NUMBER, TEXT, TableFormat
from lit_prompt.records.tasks import task_rows
from lit_prompt.results.console import console, print_table, say
from lit_prompt.results.mixtures_shown import mixture_lines
from lit_prompt.results.rows import Row
from lit_prompt.results.table import Table
from lit_prompt.results.text import as_json, nats
from lit_prompt.results.token_floors_shown import token_curve_table
from lit_prompt.under_way import opened

#: Columns of ``shortest.parquet``: entropy and KLs in nats; ``length`` is null where no length reached the KL.
_NUMBERS = [("entropy", NUMBER), ("length", COUNT), ("kl", NUMBER), ("held_out_kl", NUMBER)]
_MIXED = [("weights", pa.list_(NUMBER)), ("component_texts", pa.list_(TEXT))]
SCHEMA = pa.schema([("target_id", TEXT), ("family", TEXT), *_NUMBERS, ("prompt_text", TEXT), *_MIXED, ("run", TEXT)])
SHORTEST = TableFormat(SCHEMA)

_MOST_ROWS = 40
# targets whose distributions are held at once
_TOGETHER = 32


def run(options: Namespace) -> None:
    """Searches with each length the tasks that shorter prompts have left; prints and writes what each needed.

    A length starts from the prompts of the one before.
    """
    goal, lengths, settings = options.kl, sorted(set(options.lengths)), options.settings
    if lengths[0] < 1:
        raise InputError(f"shortest: --lengths holds {lengths[0]}; a prompt has at least 1 token")
    if not goal > 0:
        raise InputError(f"shortest: --kl is {goal:g}; give a number of nats above 0")
    if not settings.configs:
        raise InputError("shortest: give the search's settings with --config (see configs/hard.yaml)")
    found: dict[str, Row] = {}
    on: list[str] = []
    floors: list[list[float]] = []
    try:
        for length in lengths:
            of_fit = [*settings.options, *on, f"--model.init_args.length={length}"]
            console.rule(f"length {length}")  # one table follows for all lengths
            cli, _, folder = fit_and_test(replace(settings, options=of_fit, name=f"{settings.name}-shortest"))
            targets = cli.datamodule.targets
            if not floors:  # before any target is left out for what it has reached
                floors = _token_floors(cli.model, lengths)
            for row in task_rows(read_results(folder / "results.parquet", folder).to_pylist()):
                found[row["task"]] = _outcome(row, length, goal, folder)
            short = [found[name]["length"] is None for name in targets.task_ids]
            left = [i for i, task in enumerate(targets.task) if short[task]]
            say(f"{short.count(False)} of {len(short)} targets reach {goal:g} nats with length {length}")
            if not left:
                break
            with opened(folder):
                targets.select(left, folder / "left")  # kept, as the next run's own targets
            start = "start" if isinstance(cli.model, HardPrompt) else "init"
            on = ["--data.load", str(folder / "left"), f"--model.init_args.{start}.shorter_run={folder}"]
    except Interrupted as stop:
        if on:
            rest = [str(n) for n in lengths if n >= length]
            given = [
                *(f"--config={config.path}" for config in settings.configs),
                *settings.options[len(settings.configs) :],
            ]
            given += [f"--trust={module}" for module in settings.trusted]
            command = ["lit_prompt", "shortest", *given, *on, "--kl", f"{goal:g}", "--lengths", *rest]
            stop.advice = f"Interrupted; what was found is kept. Go on with: {shlex.join(command)}"
        else:
            stop.advice = None  # the command's own: it goes on beyond the run that was cut
        raise
    finally:  # what is found is not lost when a longer prompt cannot be searched
        if found:
            _print(list(found.values()), goal)
            if floors:
                print_table(token_curve_table(lengths, floors, goal, cli.model.components))
            write = partial(SHORTEST.write, SHORTEST.table(found.values()))
            with opened(folder):
                say(f"shortest   {add_file(folder, 'shortest.parquet', write)}")


def _token_floors(module: PromptModule, lengths: Sequence[int]) -> list[list[float]]:
    """Token floors of the targets that are random, for each length, nats; none for soft prompts."""
    targets = module.data.targets
    parts = (range(i, min(i + _TOGETHER, len(targets))) for i in range(0, len(targets), _TOGETHER))
    every = (token_floor_curves(module, targets.batch(part), lengths) for part in parts)
    return [floors for found in every for floors in found if floors is not None]


def _outcome(row: Row, length: int, goal: float, run: Path) -> Row:
    reached = row["kl"] is not None and row["kl"] <= goal
    names = ("family", "entropy", "kl", "held_out_kl", "prompt_text", *(name for name, _ in _MIXED))
    kept = {name: row[name] for name in names} | {"target_id": row["task"]}
    return kept | {"length": length if reached else None, "run": str(run)}


def _print(rows: Sequence[Row], goal: float) -> None:
    columns = {"KL": "kl"}
    if any(row["held_out_kl"] is not None for row in rows):
        columns["held out"] = "held_out_kl"
    cells = []
    for row in rows:
        length = "none" if row["length"] is None else str(row["length"])
        cells.append(
            [row["target_id"], f"{row['entropy']:.2f}", length, *(nats(row[name]) for name in columns.values())]
        )
    reached = sum(row["length"] is not None for row in rows)
    title = f"shortest prompt with a KL of at most {goal:g} nats"
    caption = f"{reached} of {len(rows)} targets have one; none: the KL of the longest that was tried"
    print_table(Table(["target", "entropy", "length", *columns], cells, ["target"], title, caption), _MOST_ROWS)
    for row in rows[:_MOST_ROWS]:
        if row["component_texts"] is not None:
            say(f"{row['target_id']}, prompts by weight, as JSON:", *mixture_lines(row))
        elif row["prompt_text"] is not None:
            say(f"{row['target_id']}, as JSON:", as_json(row["prompt_text"]))
