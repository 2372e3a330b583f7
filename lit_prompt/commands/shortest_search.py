"""The shortest prompt that reaches a KL, by a run for each length."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.markup import escape
from rich.table import Table

from lit_prompt.cli.arguments import RunArguments, read_arguments
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.data import TargetSet, run_folder
from lit_prompt.errors import InputError
from lit_prompt.results.console import console
from lit_prompt.results.record import free_path, write_parquet

#: Columns of ``shortest.parquet``: entropy and KL in nats; ``length`` is null where no length reached the KL.
SCHEMA = pa.schema(
    [
        ("target_id", pa.string()),
        ("family", pa.string()),
        ("entropy", pa.float64()),
        ("length", pa.int64()),
        ("kl", pa.float64()),
        ("prompt_text", pa.string()),
        ("run", pa.string()),
    ]
)

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
    found: dict[str, dict[str, Any]] = {}
    load: list[str] = []
    try:
        for length in lengths:
            console.rule(f"length {length}")
            options = [*arguments.options, *load, f"--model.init_args.length={length}"]
            run, targets = _fit_and_test(replace(arguments, options=options, name=f"{arguments.name}-shortest"))
            for row in pq.read_table(run / "results.parquet").to_pylist():
                found[row["target_id"]] = _outcome(row, length, goal, run)
            left = [i for i, target_id in enumerate(targets.target_id) if found[target_id]["length"] is None]
            if not left:
                break
            targets.select(left, run / "left")  # kept, as the next run's own targets
            load = ["--data.load", str(run / "left")]
    finally:  # what is found is not lost when a longer prompt cannot be searched
        if found:
            _print(list(found.values()), goal)
            table = pa.Table.from_pylist(list(found.values()), SCHEMA)
            console.print(f"shortest   {write_parquet(table, free_path(run, 'shortest.parquet'))}", soft_wrap=True)


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


def _outcome(row: dict[str, Any], length: int, goal: float, run: Path) -> dict[str, Any]:
    reached = row["kl"] is not None and row["kl"] <= goal
    return {
        "target_id": row["target_id"],
        "family": row["family"],
        "entropy": row["entropy"],
        "length": length if reached else None,
        "kl": row["kl"],
        "prompt_text": row["prompt_text"],
        "run": str(run),
    }


def _print(rows: Sequence[dict[str, Any]], goal: float) -> None:
    view = Table(title=f"shortest prompt with a KL of at most {goal:g} nats", title_justify="left", box=box.SIMPLE_HEAD)
    view.add_column("target", overflow="fold")
    for name in ("entropy", "length", "KL"):
        view.add_column(name, justify="right", no_wrap=True)
    texts = any(row["prompt_text"] is not None for row in rows)
    if texts:
        view.add_column("prompt", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        length = "none" if row["length"] is None else str(row["length"])
        kl = "-" if row["kl"] is None else f"{row['kl']:.3f}"
        prompt = [escape(repr(row["prompt_text"]))] if texts else []
        view.add_row(escape(row["target_id"]), f"{row['entropy']:.2f}", length, kl, *prompt)
    reached = sum(row["length"] is not None for row in rows)
    view.caption = f"{reached} of {len(rows)} targets have one; none: the KL of the longest that was tried"
    view.caption_justify = "left"
    console.print(view)
    if len(rows) > _MOST_ROWS:
        console.print(f"... and {len(rows) - _MOST_ROWS} more in the file.")
