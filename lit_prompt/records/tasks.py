"""``tasks.parquet``: one row per task, from the results of its targets."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lit_prompt.records.results import SCHEMA
from lit_prompt.records.table_format import COUNT, NUMBER, TEXT, TableFormat

Row = dict[str, Any]

#: Columns of result records that are the same for all targets of a task.
SHARED = (
    "method", "objective", "prompt_length", "prompt_norm", "prompt_text", "components", "weights",
    "weights_gap", "component_texts", "restarts", "steps", "forward_passes",
    "seconds", "stop_reason", "seed", "lm", "lm_fingerprint",
)  # fmt: skip
#: Columns whose weighted sums are a task's.
SUMMED = (
    "entropy", "kl", "kl_single", "kl_floor", "excess", "kl_uniform", "kl_unprompted", "objective_value", "kl_text",
    "kl_asking",
)  # fmt: skip
#: Those that a task has of its held-out targets, too.
HELD_OUT = ("kl", "kl_floor", "kl_unprompted", "kl_text", "kl_asking")


#: See :func:`task_rows`; KLs in nats.
TASKS = TableFormat(
    pa.schema(
        [
            ("task", TEXT), ("family", TEXT), ("targets", COUNT), ("held_out", COUNT),
            *((name, NUMBER) for name in (*SUMMED, *(f"held_out_{name}" for name in HELD_OUT))),
            *((name, SCHEMA.field(name).type) for name in SHARED),
        ]
    ),
    filled=("task", "targets", "held_out", "method", "lm"),
    advice="lit_prompt test --run RUN writes it anew",
)  # fmt: skip


def by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Result records by their task; a target that names none is one by itself."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["task"] or row["target_id"], []).append(row)
    return found


def has_tasks(rows: Sequence[Row]) -> bool:
    """Whether any task is of more than a target."""
    return len(by_task(rows)) < len(rows)


def told_rows(rows: Sequence[Row]) -> list[Row]:
    """Result records whose KLs are known; those of a task where all of its targets' are."""
    wanting = {id(row) for mine in by_task(rows).values() if any(r["kl"] is None for r in mine) for row in mine}
    return [row for row in rows if id(row) not in wanting]


def task_rows(rows: Sequence[Row]) -> list[Row]:
    """A record for each task, from those of its targets.

    ``SUMMED`` are weighted sums over the targets that were searched for, ``held_out_kl`` and the like those over the
    targets that were not; None where a target has none. A task's floor is the weighted sum of its targets' floors: it
    holds, and is loose, as no prompt need be the best for all of them. ``kl_asking`` is of a text for each
    target, which names its own odds.
    """
    found = []
    for task, mine in by_task(rows).items():
        searched, held_out = ([row for row in mine if (row["split"] == "test") is side] for side in (False, True))
        sums = {name: weighted_sum(searched, name) for name in SUMMED}
        sums |= {f"held_out_{name}": weighted_sum(held_out, name) for name in HELD_OUT}
        shared = {name: searched[0][name] for name in SHARED}
        counts = {"targets": len(searched), "held_out": len(held_out)}
        found.append({"task": task, "family": mine[0]["family"], **counts, **sums, **shared})
    return found


def weighted_sum(rows: Sequence[Row], name: str) -> float | None:
    """The sum of a column, by weight; None where a value is missing."""
    values = [row[name] for row in rows]
    if not values or None in values:
        return None
    return math.fsum(row["weight"] * row[name] for row in rows)


def task_table(results: pa.Table) -> pa.Table:
    """The tasks of some results."""
    return TASKS.table(task_rows(results.to_pylist()))
