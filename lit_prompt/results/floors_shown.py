"""Floors as a table on the screen."""

import math

import numpy as np
import pyarrow as pa
from rich import box
from rich.markup import escape
from rich.table import Table

from lit_prompt.results.console import console
from lit_prompt.results.groups import entropy_groups

#: Columns of ``floors.parquet``; KLs in nats, as in :class:`lit_prompt.models.floor_cache.KnownFloor`.
SCHEMA = pa.schema(
    [
        ("target_id", pa.string()),
        ("family", pa.string()),
        ("entropy", pa.float64()),
        ("kl_floor", pa.float64()),
        ("kl_ball", pa.float64()),
        ("kl_sphere", pa.float64()),
        ("lm", pa.string()),
        ("lm_fingerprint", pa.string()),
    ]
)
_NUMBERS = ("kl_floor", "kl_ball", "kl_sphere")


def print_floors(table: pa.Table) -> None:
    """Prints floors and sphere values by family and entropy.

    Args:
        table: rows of :data:`SCHEMA`.
    """
    rows = table.to_pylist()
    view = Table(
        title="Least KL(target || LM) that any prompt can reach, in nats", title_justify="left", box=box.SIMPLE_HEAD,
        padding=0,
    )  # fmt: skip
    view.add_column("family", overflow="fold", min_width=10)
    for name in ("entropy", "targets", "floor", "10 %", "90 %", "sphere", "widest gap"):
        view.add_column(name, justify="right", no_wrap=True)
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        for group in entropy_groups(np.array([row["entropy"] for row in mine])):
            of = {name: np.array([mine[i][name] for i in group]) for name in ("entropy", *_NUMBERS)}
            low, high = of["entropy"].min(), of["entropy"].max()
            span = f"{low:.2f}" if math.isclose(low, high, abs_tol=0.005) else f"{low:.2f}-{high:.2f}"
            floor = [f" {np.quantile(of['kl_floor'], q):.3f}" for q in (0.5, 0.1, 0.9)]
            gap = (of["kl_ball"] - of["kl_floor"]).max()
            view.add_row(
                escape(family), f" {span}", str(len(group)), *floor, f" {np.median(of['kl_sphere']):.3f}", f" {gap:.1e}"
            )
    view.caption = (
        "floor: certified, no prompt is below it, soft or hard, of any length (median, 10 and 90 %); sphere: what a "
        "soft prompt reaches (median); widest gap: how far a floor can be below the best one at most"
    )
    view.caption_justify = "left"
    console.print(view)
