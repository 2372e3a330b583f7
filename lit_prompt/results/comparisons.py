"""Comparisons between targets, with bootstrap confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CONFIDENCE = 0.95
_RESAMPLES = 9999
#: fewer values than this say too little for an interval
_FEWEST = 5


@dataclass(frozen=True)
class Comparison:
    """The mean KL of some targets against that of others.

    Attributes:
        name: what is compared with what.
        count: number of targets or, in a paired comparison, of pairs.
        other_count: number of the others.
        kl: mean KL of the first, in nats.
        other_kl: mean KL of the others, in nats.
        ratio: kl / other_kl.
        low: lower end of the ratio's 95 % bootstrap confidence interval.
        high: upper end.
        won: pairs in which the first has the lower KL; None where targets are not paired.
    """

    name: str
    count: int
    other_count: int
    kl: float
    other_kl: float
    ratio: float
    low: float
    high: float
    won: int | None = None


def comparisons(table: pa.Table) -> list[Comparison]:
    """Everything that a table of results allows to compare.

    Args:
        table: result records.

    Returns:
        For each family of a wide range of entropies, its low and its high entropies against its moderate ones; for
        each family with partners, its targets against their partners, family by family.
    """
    rows = [row for row in table.to_pylist() if row["kl"] is not None]
    return [*_by_entropy(rows), *_with_partners(rows)]


def _by_entropy(rows: Sequence[dict[str, Any]]) -> list[Comparison]:
    """Lowest and highest sixth of [0, ln|V|] against the third in the middle."""
    found = []
    for family in dict.fromkeys(row["family"] for row in rows if row["partner_of"] is None):
        mine = [row for row in rows if row["family"] == family and row["partner_of"] is None]
        share = np.array([row["entropy"] / (row["entropy"] + row["kl_uniform"]) for row in mine])
        kl = np.array([row["kl"] for row in mine])
        middle = kl[(share > 1 / 3) & (share < 2 / 3)]
        for name, part in (("low", kl[share < 1 / 6]), ("high", kl[share > 5 / 6])):
            if min(len(part), len(middle)) >= _FEWEST:
                found.append(_compare(f"{family}: {name} entropy / moderate entropy", part, middle, paired=False))
    return found


def _with_partners(rows: Sequence[dict[str, Any]]) -> list[Comparison]:
    by_id = {row["target_id"]: row for row in rows}
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if (of := by_id.get(row["partner_of"])) is not None:
            pairs.setdefault((of["family"], row["family"]), []).append((of["kl"], row["kl"]))
    return [
        _compare(f"{family} / {partner}, in pairs", np.array(values)[:, 0], np.array(values)[:, 1], paired=True)
        for (family, partner), values in pairs.items()
        if len(values) >= _FEWEST
    ]


def _compare(name: str, kl: NDArray[Any], other: NDArray[Any], paired: bool) -> Comparison:
    from scipy.stats import bootstrap

    def ratio(x: NDArray[Any], y: NDArray[Any], axis: int = -1) -> Any:
        return x.mean(axis) / y.mean(axis)

    interval = bootstrap(
        (kl, other), ratio, paired=paired, n_resamples=_RESAMPLES, confidence_level=_CONFIDENCE, vectorized=True,
        method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    return Comparison(
        name=name,
        count=len(kl),
        other_count=len(other),
        kl=float(kl.mean()),
        other_kl=float(other.mean()),
        ratio=float(ratio(kl, other)),
        low=float(interval.low),
        high=float(interval.high),
        won=int((kl < other).sum()) if paired else None,
    )
