"""Tasks and their targets, in tables."""

from collections.abc import Sequence

from lit_prompt.records.tasks import by_task, task_rows, weighted_sum
from lit_prompt.results.mixtures_shown import OF_ONE_TOLD
from lit_prompt.results.rows import Row, has_mixtures
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats, number


def tasks_table(rows: Sequence[Row]) -> Table:
    """A row for each task."""
    tasks = task_rows(rows)
    held_out, mixed = any(task["held_out"] for task in tasks), has_mixtures(tasks)
    columns = {"KL": "kl", **({"held out": "held_out_kl"} if held_out else {})}
    columns |= {"of one": "kl_single"} if mixed else {}
    columns |= {"floor": "kl_floor", "uniform": "kl_uniform", "no prompt": "kl_unprompted"}
    columns |= {"held out, no prompt": "held_out_kl_unprompted"} if held_out else {}
    asked = any(task["kl_asking"] is not None for task in tasks)
    columns |= {"asking": "kl_asking"} if asked else {}
    head = ["task", "targets", *columns]
    body = [[task["task"], _count(task), *(nats(task[name]) for name in columns.values())] for task in tasks]
    single = " for single prompts" * mixed
    caption = f"of a task: the weighted sum over its targets; the floor, too, which holds{single} and is loose"
    if mixed:
        caption += f"; {OF_ONE_TOLD}"
    if held_out:
        caption += "; held out: over targets that were not searched for"
    if asked:
        caption += "; asking: for prompts that ask in words, each target for its own odds"
    return Table(head, body, ["task", "targets"], "Tasks: KL(target || LM) in nats", caption)


def _count(task: Row) -> str:
    return f"{task['targets']} + {task['held_out']}" if task["held_out"] else str(task["targets"])


def shares_table(rows: Sequence[Row]) -> Table:
    """A row for each target of the tasks that have several: what it adds to the KL of its task."""
    body = []
    for task, mine in by_task(rows).items():
        if len(mine) < 2:
            continue
        total = weighted_sum([row for row in mine if row["split"] != "test"], "kl")
        for row in sorted(mine, key=lambda row: row["split"] == "test"):
            body.append([task, row["target_id"].removeprefix(f"{row['family']}/"), *_cells(row, total)])
    words = ["task", "target"]
    title = "Which targets carry the KL of their task"
    return Table([*words, "weight", "KL", "share"], body, words, title, "share: of the task's KL, by weight")


def _cells(row: Row, total: float | None) -> list[str]:
    if row["split"] == "test":
        return ["held out", nats(row["kl"]), ""]
    share = "-" if not total or row["kl"] is None else f"{100 * row['weight'] * row['kl'] / total:.0f} %"
    return [number(row["weight"]), nats(row["kl"]), share]


def marked(rows: Sequence[Row]) -> list[Row]:
    """Result records in which target and family say where a target was held out."""
    names = ("target_id", "family")
    return [
        row | {name: f"{row[name]} (held out)" for name in names} if row["split"] == "test" else row for row in rows
    ]
