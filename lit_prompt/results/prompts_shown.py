"""Hard prompts on the screen."""

from typing import Any

import numpy as np
import pyarrow as pa
from rich import box
from rich.markup import escape
from rich.table import Table

from lit_prompt.results.console import console

_MOST_ROWS = 16


def print_prompts(table: pa.Table) -> None:
    """Prints the prompts that have a text, the best of them first; nothing where there are none.

    Args:
        table: result records.
    """
    rows: list[dict[str, Any]] = [row for row in table.to_pylist() if row["prompt_text"] is not None]
    if not rows:
        return
    rows.sort(key=lambda row: row["kl"])
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    view.add_column("target", overflow="fold", max_width=24)
    view.add_column("KL", justify="right", no_wrap=True)
    view.add_column("as text", justify="right", no_wrap=True)
    view.add_column("prompt", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        as_text = "-" if row["kl_text"] is None else f"{row['kl_text']:.3f}"
        view.add_row(escape(row["target_id"]), f"{row['kl']:.3f}", as_text, escape(repr(row["prompt_text"])))
    kept = sum(row["kl_text"] is not None and abs(row["kl"] - row["kl_text"]) <= 1e-5 for row in rows)
    view.caption = f"as text: the KL when the text is pasted; the same for {kept} of {len(rows)} prompts"
    view.caption_justify = "left"
    console.print(view)
    if len(rows) > _MOST_ROWS:
        console.print(f"... and {len(rows) - _MOST_ROWS} more in the file.")
    gaps = [row for row in rows if row["kl_soft"] is not None]
    if gaps:
        soft, projected, found = (
            float(np.median([row[name] for row in gaps])) for name in ("kl_soft", "kl_projected", "kl")
        )
        console.print(
            f"median KL: soft prompts {soft:.3f}, the tokens nearest to them {projected:.3f} (projection gap "
            f"{projected - soft:.3f}), searched from there {found:.3f}"
        )
