"""Results as tables on the screen."""

import statistics
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lit_prompt.metrics import entropy_bin

console = Console(highlight=False)


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def print_results(table: pa.Table) -> None:
    """Prints KL by family and entropy.

    Args:
        table: result records.
    """
    rows = table.to_pylist()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kl"] is not None:
            groups.setdefault((row["family"], entropy_bin(row["entropy"])), []).append(row)
    view = Table(title="KL(target || LM) in nats, recomputed from the saved prompts", title_justify="left")
    view.add_column("family", overflow="fold")
    for name in ("entropy", "targets", "KL median", "10 %", "90 %", "to uniform", "no prompt", "TV", "top 10"):
        view.add_column(name, justify="right", no_wrap=True)
    for (family, _), members in sorted(groups.items()):
        _add_row(view, escape(family), members)
    if len(groups) > 1:
        view.add_section()
        _add_row(view, "all", [row for members in groups.values() for row in members])
    console.print(view)
    missing = sum(row["kl"] is None for row in rows)
    if missing:
        console.print(f"{missing} of {len(rows)} targets have not been searched yet.")


def _add_row(view: Table, family: str, rows: list[dict[str, Any]]) -> None:
    def middle(name: str, digits: int = 3) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        return f"{statistics.median(values):.{digits}f}" if values else "-"

    kl = [row["kl"] for row in rows]
    h = [row["entropy"] for row in rows]
    span = f"{min(h):.2f}" if max(h) - min(h) < 0.005 else f"{min(h):.2f}-{max(h):.2f}"
    low, high = f"{_quantile(kl, 0.1):.3f}", f"{_quantile(kl, 0.9):.3f}"
    others = (middle("kl_uniform"), middle("kl_unprompted"), middle("tv"), middle("top10_overlap", 2))
    view.add_row(family, span, str(len(rows)), middle("kl"), low, high, *others)


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
        view = Table(title=f"{escape(target_id)}: KL {tokens[0]['kl']:.4f} nats", title_justify="left")
        view.add_column("token", no_wrap=True)
        view.add_column("target", justify="right")
        view.add_column("reached", justify="right")
        for row in tokens:
            reached, wanted = row["reached_probability"], row["target_probability"]
            view.add_row(escape(repr(row["token"])), f"{wanted:.4f}", f"{reached:.4f}")
        console.print(view)
    if len(by_target) > targets:
        console.print(f"... and {len(by_target) - targets} more targets in the file.")
