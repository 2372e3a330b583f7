"""Hard prompts on the screen."""

import numpy as np
import pyarrow as pa

from lit_prompt.results.console import console, print_table
from lit_prompt.results.rows import column
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats, number

_MOST_ROWS = 16


def print_prompts(table: pa.Table) -> None:
    """Prints the prompts of result records that have a text, the best of them first; nothing where there are none."""
    rows = [row for row in table.to_pylist() if row["prompt_text"] is not None]
    if not rows:
        return
    rows.sort(key=lambda row: row["kl"])
    cells = [[row["target_id"], nats(row["kl"]), nats(row["kl_text"]), repr(row["prompt_text"])] for row in rows]
    kept = sum(row["kl_text"] is not None and abs(row["kl"] - row["kl_text"]) <= 1e-5 for row in rows)
    caption = f"as text: the KL when the text is pasted; the same for {kept} of {len(rows)} prompts"
    print_table(Table(["target", "KL", "as text", "prompt"], cells, ["target", "prompt"], caption=caption), _MOST_ROWS)
    if gaps := [row for row in rows if row["kl_soft"] is not None]:
        soft, projected, found = (float(np.median(column(gaps, name))) for name in ("kl_soft", "kl_projected", "kl"))
        console.print(
            f"median KL: soft prompts {nats(soft)}, the tokens nearest to them {nats(projected)} (projection gap "
            f"{number(projected - soft)}), searched from there {nats(found)}"
        )
