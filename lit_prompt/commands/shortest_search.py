"""The shortest prompt that reaches a KL, by a run for each length."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from lit_prompt.cli.arguments import RunArguments, read_arguments
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.data import TargetSet
from lit_prompt.data.datamodule import run_folder
from lit_prompt.errors import InputError
from lit_prompt.files import free_path
from lit_prompt.records.results import RESULTS
from lit_prompt.records.table_format import COUNT, NUMBER, TEXT, TableFormat
from lit_prompt.results.console import console, print_table, say
from lit_prompt.results.rows import Row
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats

#: Columns of ``shortest.parquet``: entropy and KL in nats; ``length`` is null where no length reached the KL.
_NUMBERS = [("entropy", NUMBER), ("length", COUNT), ("kl", NUMBER)]
SCHEMA = pa.schema([("target_id", TEXT), ("family", TEXT), *_NUMBERS, ("prompt_text", TEXT), ("run", TEXT)])
SHORTEST = TableFormat(SCHEMA)

_MOST_ROWS = 40


def find_shortest(goal: float, lengths: Sequence[int], arguments: RunArguments) -> None:
    """Searches with each length the targets that shorter prompts have left; prints and writes what each needed.

    Args:
        goal: KL to reach, in nats.
        lengths: lengths to try, rising.
        arguments: options of ``fit``.

    Raises:
        InputError: if the options are wrong.
    """
    found: dict[str, Row] = {}
    load: list[str] = []
    try:
        for length in lengths:
            console.rule(f"length {length}")
            options = [*arguments.options, *load, f"--model.init_args.length={length}"]
            run, targets = _fit_and_test(replace(arguments, options=options, name=f"{arguments.name}-shortest"))
            for row in RESULTS.read(run / "results.parquet").to_pylist():
                found[row["target_id"]] = _outcome(row, length, goal, run)
            left = [i for i, target_id in enumerate(targets.target_id) if found[target_id]["length"] is None]
            if not left:
                break
            targets.select(left, run / "left")  # kept, as the next run's own targets
            load = ["--data.load", str(run / "left")]
    finally:  # what is found is not lost when a longer prompt cannot be searched
        if found:
            _print(list(found.values()), goal)
            path = free_path(run, "shortest.parquet")
            say(f"shortest   {SHORTEST.write(SHORTEST.table(found.values()), path)}")


class _KeptFit(PromptCLI):
    """A fit whose run keeps a folder."""

    def before_fit(self) -> None:
        """Refuses a run that keeps none, before it is searched."""
        if run_folder(self.trainer) is None:
            raise InputError("shortest: every length keeps a run's folder; leave trainer.logger and fast_dev_run alone")


def _fit_and_test(arguments: RunArguments) -> tuple[Path, TargetSet]:
    cli = _KeptFit("fit", arguments)
    run = run_folder(cli.trainer)
    assert run is not None
    PromptCLI("test", read_arguments("test", ["--run", str(run)], takes_run=True))
    return run, cli.datamodule.targets


def _outcome(row: Row, length: int, goal: float, run: Path) -> Row:
    reached = row["kl"] is not None and row["kl"] <= goal
    kept = {name: row[name] for name in ("target_id", "family", "entropy", "kl", "prompt_text")}
    return kept | {"length": length if reached else None, "run": str(run)}


def _print(rows: Sequence[Row], goal: float) -> None:
    texts = any(row["prompt_text"] is not None for row in rows)
    head = ["target", "entropy", "length", "KL", *(["prompt"] if texts else [])]
    cells = []
    for row in rows:
        length = "none" if row["length"] is None else str(row["length"])
        prompt = [repr(row["prompt_text"])] if texts else []
        cells.append([row["target_id"], f"{row['entropy']:.2f}", length, nats(row["kl"]), *prompt])
    reached = sum(row["length"] is not None for row in rows)
    title = f"shortest prompt with a KL of at most {goal:g} nats"
    caption = f"{reached} of {len(rows)} targets have one; none: the KL of the longest that was tried"
    print_table(Table(head, cells, ["target", "prompt"], title, caption), _MOST_ROWS)
