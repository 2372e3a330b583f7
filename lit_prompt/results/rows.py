"""Result records as rows: their columns, their families, and which of them have about the same entropy."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lit_prompt.records.results import objective_label

Row = dict[str, Any]
Item = TypeVar("Item")
Key = TypeVar("Key")

#: So many targets, a user's own as a rule, are shown one by one, under their names.
MOST_NAMED = 24
_MOST_GROUPS = 24


def column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """A column of numbers, ``[row]``; NaN where there is none."""
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)


def entropy_share(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Entropies as a share of the greatest one, ln|V|."""
    h = column(rows, "entropy")
    return h / (h + column(rows, "kl_uniform"))


def searched_objective(rows: Sequence[Row]) -> str | None:
    """The objective that result records were searched for, as it is shown; None for KL(target || LM)."""
    name = next((row.get("objective") for row in rows), None)
    return None if name in (None, "kl") else objective_label(name)


def has_mixtures(rows: Sequence[Row]) -> bool:
    """Whether any records are of mixtures of prompts."""
    return any(row.get("components") is not None for row in rows)


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by their key, in order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def entropy_groups(entropy: NDArray[Any]) -> list[NDArray[Any]]:
    """Positions of the targets of each entropy (nats, ``[target]``), by rising entropy.

    The entropies of a grid (equal to 0.1 nats) are taken as they are; where there are too many, bins of half a nat
    take their place.
    """
    key = np.round(entropy, 1)
    if len(np.unique(key)) > min(_MOST_GROUPS, max(len(entropy) // 2, 1)):
        key = np.floor(entropy * 2) / 2
    return [np.flatnonzero(key == value) for value in np.unique(key)]
