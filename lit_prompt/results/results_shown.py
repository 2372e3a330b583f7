"""Results, hard prompts and floors on the screen."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lit_prompt.results.comparisons import Comparison
from lit_prompt.results.console import console, print_table, say
from lit_prompt.results.rows import column
from lit_prompt.results.table import Table, entropy_table, quantile
from lit_prompt.results.text import nats, number

_MOST_PROMPTS = 16


def print_results(table: pa.Table) -> None:
    """Prints the KLs of result records by family and entropy; by family alone where that would be too long."""
    rows = table.to_pylist()
    found = [row for row in rows if row["kl"] is not None]
    columns = {"median": quantile("kl"), "10 %": quantile("kl", 0.1), "90 %": quantile("kl", 0.9)}
    columns |= {"floor": quantile("kl_floor"), "uniform": quantile("kl_uniform")}
    columns |= {"no prompt": quantile("kl_unprompted"), "TV": quantile("tv")}
    print_table(
        entropy_table(
            found,
            columns,
            title="KL(target || LM) in nats, recomputed from the saved prompts",
            caption="floor: certified, no prompt of this LM is below it; uniform, no prompt: the same KL for the "
            "uniform distribution, for the LM unprompted; TV: total variation",
        )
    )
    for front in dict.fromkeys(row["in_front"] for row in rows if row["in_front"] is not None):
        say(f"In front of every text stands {front!r}." if front else "Nothing stands in front of a text.")
    alone = (row for row in rows if not (row["in_front"] or row["context_before"] or row["context_after"]))
    for stand_in in dict.fromkeys(row["unprompted_text"] for row in alone if row["unprompted_text"]):
        say(f"Where there is no text at all, the LM unprompted is the LM after {stand_in!r}.")
    if len(found) < len(rows):
        say(f"{len(rows) - len(found)} of {len(rows)} targets have not been searched yet.")


def print_prompts(table: pa.Table) -> None:
    """Prints the prompts of result records that have a text, the best of them first; nothing where there are none."""
    rows = [row for row in table.to_pylist() if row["prompt_text"] is not None]
    if not rows:
        return
    rows.sort(key=lambda row: row["kl"])
    cells = [[row["target_id"], nats(row["kl"]), nats(row["kl_text"]), repr(row["prompt_text"])] for row in rows]
    kept = sum(row["kl_text"] is not None and abs(row["kl"] - row["kl_text"]) <= 1e-5 for row in rows)
    caption = f"as text: the KL when the text is pasted; the same for {kept} of {len(rows)} prompts"
    print_table(
        Table(["target", "KL", "as text", "prompt"], cells, ["target", "prompt"], caption=caption), _MOST_PROMPTS
    )
    if gaps := [row for row in rows if row["kl_soft"] is not None]:
        soft, projected, found = (float(np.median(column(gaps, name))) for name in ("kl_soft", "kl_projected", "kl"))
        console.print(
            f"median KL: soft prompts {nats(soft)}, the tokens nearest to them {nats(projected)} (projection gap "
            f"{number(projected - soft)}), searched from there {nats(found)}"
        )


def print_floors(table: pa.Table) -> None:
    """Prints floors and sphere values, of rows of ``floors.parquet``, by family and entropy."""
    print_table(
        entropy_table(
            table.to_pylist(),
            {
                "floor": quantile("kl_floor"),
                "10 %": quantile("kl_floor", 0.1),
                "90 %": quantile("kl_floor", 0.9),
                "sphere": quantile("kl_sphere"),
                "widest gap": lambda group: f"{(column(group, 'kl_ball') - column(group, 'kl_floor')).max():.1e}",
            },
            title="Least KL(target || LM) that any prompt can reach, in nats",
            caption="floor: certified, no prompt is below it, soft or hard, of any length (median, 10 and 90 %); "
            "sphere: what a soft prompt reaches (median); widest gap: how far a floor can be below the best one at "
            "most",
        )
    )


def print_comparisons(found: Sequence[Comparison]) -> None:
    """Prints mean KLs against one another, with their ratio's confidence interval; nothing where there are none."""
    if not found:
        return
    rows = [
        [
            row.name,
            f"{row.count}, {row.other_count}" if row.won is None else str(row.count),
            nats(row.kl, 4),
            nats(row.other_kl, 4),
            f"{row.ratio:.2g}",
            f"{row.low:.2g} to {row.high:.2g}",
            "" if row.won is None else f"{row.won} of {row.count}",
        ]
        for row in found
    ]
    caption = "the interval is the ratio's, by bootstrap over targets (9999 resamples) or over pairs of targets"
    if any(row.won is None for row in found):
        caption += "; low, moderate, high: the lowest sixth, middle third and highest sixth of 0 to ln|V|"
    head = ["a / b", "n", "KL a", "KL b", "ratio", "95 % interval", "a lower"]
    print_table(Table(head, rows, ["a / b"], "Mean KL, compared", caption))
