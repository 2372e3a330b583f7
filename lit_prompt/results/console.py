"""Results as tables on the screen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lit_prompt.results.comparisons import Comparison
from lit_prompt.results.groups import entropy_groups
from lit_prompt.results.token_errors_shown import error_lines

# tokens are shown as they are: ":x:" is no picture
console = Console(highlight=False, emoji=False)

#: With more rows than this, a family gets one row instead of one for each entropy.
_MOST_ROWS = 60


def print_results(table: pa.Table) -> None:
    """Prints KL by family and entropy; by family alone where that would be too long.

    Args:
        table: result records.
    """
    rows = table.to_pylist()
    found = [row for row in rows if row["kl"] is not None]
    by_family: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        by_family.setdefault(row["family"], []).append(row)
    groups = [
        (family, [mine[i] for i in group])
        for family, mine in by_family.items()
        for group in entropy_groups(np.array([row["entropy"] for row in mine]))
    ]
    if len(groups) > _MOST_ROWS:
        groups = list(by_family.items())
    several = len(by_family) > 1
    title = "KL(target || LM) in nats, recomputed from the saved prompts"
    # narrow margins: a terminal of 80 columns is to show the families' names too
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    if several:
        view.add_column("family", overflow="fold", min_width=10)
    for name in ("entropy", "targets", "median", "10 %", "90 %", "floor", "uniform", "no prompt", "TV"):
        view.add_column(name, justify="right", no_wrap=True)
    for family, group in groups:
        _add_row(view, group, escape(family) if several else None)
    view.add_section()
    view.caption = (
        "floor: certified, no prompt of this LM is below it; uniform, no prompt: the same KL for the uniform "
        "distribution, for the LM unprompted; TV: total variation"
    )
    view.caption_justify = "left"
    _add_row(view, found, "all" if several else None)
    console.print(view)
    if len(found) < len(rows):
        console.print(f"{len(rows) - len(found)} of {len(rows)} targets have not been searched yet.")


def _add_row(view: Table, rows: list[dict[str, Any]], family: str | None) -> None:
    def quantile(name: str, q: float = 0.5) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        return f"{np.quantile(values, q):.3f}" if values else "-"

    h = [row["entropy"] for row in rows]
    span = f"{min(h):.2f}" if max(h) - min(h) < 0.005 else f"{min(h):.2f}-{max(h):.2f}"
    kl = [quantile("kl"), quantile("kl", 0.1), quantile("kl", 0.9)]
    others = [quantile("kl_floor"), quantile("kl_uniform"), quantile("kl_unprompted"), quantile("tv")]
    view.add_row(*([] if family is None else [family]), span, str(len(rows)), *kl, *others)


def print_comparisons(found: Sequence[Comparison]) -> None:
    """Prints mean KLs against one another, with their ratio's confidence interval; nothing where there are none.

    Args:
        found: the comparisons.
    """
    if not found:
        return
    view = Table(title="Mean KL, compared", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    view.add_column("a / b", overflow="fold")
    for name in ("n", "KL a", "KL b", "ratio", "95 % interval", "a lower"):
        view.add_column(name, justify="right", no_wrap=True)
    for row in found:
        view.add_row(
            escape(row.name),
            f"{row.count}, {row.other_count}" if row.won is None else str(row.count),
            f" {row.kl:.4f}",
            f" {row.other_kl:.4f}",
            f" {row.ratio:.2g}",
            f" {row.low:.2g} to {row.high:.2g}",
            "" if row.won is None else f" {row.won} of {row.count}",
        )
    view.caption = "the interval is the ratio's, by bootstrap over targets (9999 resamples) or over pairs of targets"
    if any(row.won is None for row in found):
        view.caption += "; low, moderate, high: the lowest sixth, middle third and highest sixth of 0 to ln|V|"
    view.caption_justify = "left"
    console.print(view)


def print_top_tokens(records: Sequence[dict[str, Any]], targets: int = 12) -> None:
    """Prints target and reached probability of the top tokens of the first few targets.

    Args:
        records: token records (see ``PromptModule.predict_step``).
        targets: how many targets to show.
    """
    by_target: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_target.setdefault(record["target_id"], []).append(record)
    for target_id, tokens in list(by_target.items())[:targets]:
        view = Table(
            title=f"{escape(target_id)}: KL {tokens[0]['kl']:.4f} nats", title_justify="left", box=box.SIMPLE_HEAD
        )
        view.add_column("token", no_wrap=True)
        view.add_column("target", justify="right")
        view.add_column("reached", justify="right")
        view.add_column("KL", justify="right")
        for row in tokens:
            reached, wanted = row["reached_probability"], row["target_probability"]
            view.add_row(escape(repr(row["token"])), f"{wanted:.4f}", f"{reached:.4f}", f"{row['token_kl']:.4f}")
        console.print(view)
        for line in error_lines(tokens):
            console.print(line, soft_wrap=True, markup=False)
        console.print()
    if len(by_target) > targets:
        console.print(f"... and {len(by_target) - targets} more targets in the file.")
