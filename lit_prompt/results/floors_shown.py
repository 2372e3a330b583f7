"""Floors on the screen."""

import pyarrow as pa

from lit_prompt.results.console import print_table
from lit_prompt.results.rows import column
from lit_prompt.results.table import entropy_table, quantile


def print_floors(table: pa.Table) -> None:
    """Prints floors and sphere values by family and entropy.

    Args:
        table: rows of ``floors.parquet``.
    """
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
