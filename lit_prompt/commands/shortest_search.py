"""The shortest prompt that reaches a KL, by a run for each length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.markup import escape
from rich.table import Table

from lit_prompt.cli import PromptCLI
from lit_prompt.data import TargetSet
from lit_prompt.errors import InputError
from lit_prompt.main import check_yaml, config_files, expand_run
from lit_prompt.results.console import console
from lit_prompt.results.record import free_path, write_parquet

_MOST_ROWS = 40


def find_shortest(goal: float, lengths: Sequence[int], options: Sequence[str]) -> None:
    """Searches with each length the targets that shorter prompts have left; prints and writes what each needed.

    Args:
        goal: KL to reach, in nats.
        lengths: lengths to try, rising.
        options: of ``fit``.

    Raises:
        InputError: if the options are wrong.
    """
    configs = config_files(options)
    if not configs:
        raise InputError("shortest: give the search's settings with --config (see configs/hard.yaml)")
    check_yaml(configs)
    name = f"{Path(configs[-1]).stem}-shortest"
    found: dict[str, dict[str, Any]] = {}
    load: list[str] = []
    for length in lengths:
        console.rule(f"length {length}")
        run = _fit_and_test(length, [*options, *load], name)
        for row in pq.read_table(run / "results.parquet").to_pylist():
            found[row["target_id"]] = _outcome(row, length, goal, run)
        targets = TargetSet(Path(load[1]) if load else run / "targets")
        left = [i for i, target_id in enumerate(targets.target_id) if found[target_id]["length"] is None]
        if not left:
            break
        targets.select(left, run / "left")  # kept, as the next run's own targets
        load = ["--data.load", str(run / "left")]
    rows = list(found.values())
    _print(rows, goal)
    path = write_parquet(pa.Table.from_pylist(rows), free_path(run, "shortest.parquet"))
    console.print(f"shortest   {path}", soft_wrap=True)


def _fit_and_test(length: int, options: Sequence[str], name: str) -> Path:
    args = ["fit", *options, "--model.init_args.length", str(length)]
    cli = PromptCLI(args, None, name=name)
    if cli.trainer.log_dir is None or cli.trainer.logger is None:
        raise InputError("shortest: every length keeps a run's folder; leave trainer.logger and fast_dev_run alone")
    run = Path(cli.trainer.log_dir)
    PromptCLI(*expand_run(["test", "--run", str(run)]), name=name)
    return run


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
