"""Mixtures of prompts as text."""

from collections.abc import Sequence
from typing import Any

from lit_prompt.records.tasks import has_tasks, task_rows
from lit_prompt.results.rows import Row
from lit_prompt.results.text import as_json

#: Stand below tables with columns of mixtures.
OF_ONE_TOLD = "of one: for the best of a mixture's prompts alone"
MIXTURE_TOLD = f"{OF_ONE_TOLD}; prompts: those that are drawn from, by weight"


def drawn_prompts(row: Row) -> list[tuple[str, Any]]:
    """Of each prompt of a mixture that has a weight: that as a percentage, and the text; None of soft prompts."""
    texts = row.get("component_texts") or [None] * len(row["weights"])
    return [(f"{100 * weight:.2f} %", text) for weight, text in zip(row["weights"], texts, strict=True)]


def mixture_lines(row: Row) -> list[str]:
    """A line for each prompt of a mixture that has a weight: that and, of hard prompts, the text as JSON."""
    return [f"{weight:>8}{'' if text is None else f'  {as_json(text)}'}" for weight, text in drawn_prompts(row)]


def below_floor_of_one(rows: Sequence[Row]) -> str | None:
    """A sentence about mixtures below the floor of single prompts; None where there are no mixtures, or no floors.

    Targets of a task share a mixture, which counts once.
    """
    every = task_rows(rows) if has_tasks(rows) else rows
    known = [row for row in every if row["components"] is not None and row["kl_floor"] is not None]
    if not known:
        return None
    below = sum(row["kl"] < row["kl_floor"] for row in known)
    return (
        f"{below} of {len(known)} mixtures are below the floor, as mixtures may be: it holds for single prompts, whose "
        "best is in the column 'of one'."
    )
