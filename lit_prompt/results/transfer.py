"""Prompts that were found on one LM and tested on another: where their results are, and both KLs side by side."""

from collections.abc import Sequence
from pathlib import Path

from lit_prompt.files import newest
from lit_prompt.results.rows import MOST_NAMED, Row
from lit_prompt.results.table import Table, entropy_table, quantile, target_table
from lit_prompt.results.task_tables import marked


def folder_on(lm: str, fingerprint: str) -> str:
    """Name of the folder, in a run's, of the results on another LM."""
    return f"on-{Path(lm).name}-{fingerprint[:8]}"


def results_on_others(run: Path) -> list[Path]:
    """The newest results of a run's prompts on each other LM."""
    found = (newest(folder, "results.parquet") for folder in sorted(run.glob("on-*")))
    return [path for path in found if path is not None]


def side_by_side(own: Sequence[Row], other: Sequence[Row]) -> Table:
    """KLs of the same prompts' texts on the LM that they were found on and on another one.

    A row a target where they are few, else one for each family and entropy, of medians.

    Args:
        own: result records of the run itself.
        other: those on the other LM, one at least; targets that lack either are left out.
    """
    found = [row for row in own if row["kl"] is not None]
    kls = {row["target_id"]: row["kl"] if row["kl_text"] is None else row["kl_text"] for row in found}
    tested = (row for row in other if row["kl"] is not None and row["target_id"] in kls)
    rows = [row | {"kl_own": kls[row["target_id"]]} for row in tested]
    names = [Path(each[0]["lm"]).name for each in (own, other)]
    if names[0] == names[1]:
        names = [f"{name} ({each[0]['lm_fingerprint'][:8]})" for name, each in zip(names, (own, other), strict=True)]
    columns = {"own LM": quantile("kl_own"), "other LM": quantile("kl"), "no prompt": quantile("kl_unprompted")}
    caption = "no prompt: the other LM's KL unprompted"
    if len(rows) < len(found):
        caption += f"; {len(found) - len(rows)} of {len(found)} targets could not be carried over or tested"
    shown = target_table if len(rows) <= MOST_NAMED else entropy_table
    return shown(
        marked(rows), columns, f"Prompts found on {names[0]}, tested on {names[1]}: KL(target || LM) in nats", caption
    )
