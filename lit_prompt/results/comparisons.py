"""Comparisons between targets, with bootstrap confidence intervals and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lit_prompt.results.bootstrap import FEWEST, interval
from lit_prompt.results.rows import Row, column, entropy_share, grouped


@dataclass(frozen=True)
class Comparison:
    """The mean KL of some targets against that of others, in nats."""

    first: str
    other: str
    count: int  #: number of targets or, in a paired comparison, of pairs
    other_count: int
    kl: float
    other_kl: float
    ratio: float  #: kl / other_kl; NaN if that is zero
    low: float  #: lower end of the ratio's 95 % bootstrap confidence interval
    high: float  #: its upper end
    p: float  #: two-sided, of Wilcoxon's signed-rank test or, where targets are not paired, of the Mann-Whitney test
    won: int | None = None  #: pairs in which the first has the lower KL; None where targets are not paired

    @property
    def name(self) -> str:
        """What is compared with what."""
        return f"{self.first} / {self.other}{'' if self.won is None else ', in pairs'}"


def comparisons(table: pa.Table) -> list[Comparison]:
    """All comparisons that the result records allow: by entropy, and in pairs."""
    rows = [row for row in table.to_pylist() if row["kl"] is not None and math.isfinite(row["kl"])]
    return [*by_entropy(rows), *in_pairs(rows)]


def by_entropy(rows: Sequence[Row]) -> list[Comparison]:
    """Low and high entropies against moderate ones, for each family of a wide range of entropies.

    Low, moderate and high are the lowest sixth of [0, ln|V|], the third in its middle, and its highest sixth.
    """
    found = []
    for family, mine in grouped((row for row in rows if row["partner_of"] is None), itemgetter("family")).items():
        share, kl = entropy_share(mine), column(mine, "kl")
        middle = kl[(share > 1 / 3) & (share < 2 / 3)]
        for name, part in (("low", kl[share < 1 / 6]), ("high", kl[share > 5 / 6])):
            if min(len(part), len(middle)) >= FEWEST:
                first, other = f"{family}: {name} entropy", "moderate entropy"
                found.append(compare(first, other, part, middle, paired=False))
    return found


def with_partners(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Targets with their partners, a pair for each; a column ``run`` tells equal ids of several runs apart."""
    by_id = {(row.get("run"), row["target_id"]): row for row in rows}
    pairs = ((by_id.get((row.get("run"), row["partner_of"])), row) for row in rows)
    return [(of, row) for of, row in pairs if of is not None]


def paired(rows: Sequence[Row]) -> dict[tuple[str, str], list[tuple[Row, Row]]]:
    """Targets with their partners, by the two families.

    Families that are partners of one another nowhere are paired as partners of the same targets.
    """
    pairs = grouped(with_partners(rows), lambda pair: (pair[0]["family"], pair[1]["family"]))
    direct = set(pairs)
    partners = (row for row in rows if row["partner_of"] is not None)
    for siblings in grouped(partners, lambda row: (row.get("run"), row["partner_of"])).values():
        # outlier before random, as where an outlier target has a random partner
        for a, b in combinations(sorted(siblings, key=itemgetter("family")), 2):
            if (families := (a["family"], b["family"])) not in direct:
                pairs.setdefault(families, []).append((a, b))
    return pairs


def in_pairs(rows: Sequence[Row]) -> list[Comparison]:
    """Targets against their partners, for every two families with enough pairs."""
    found = []
    for (family, partner), pairs in paired(rows).items():
        if len(pairs) >= FEWEST:
            kl, other_kl = (column(side, "kl") for side in zip(*pairs, strict=True))
            found.append(compare(family, partner, kl, other_kl, paired=True))
    return found


def compare(first: str, other: str, kl: NDArray[Any], other_kl: NDArray[Any], paired: bool) -> Comparison:
    """Compares mean KLs (nats, ``[target]``); if paired, the values of one position belong together."""
    from scipy.stats import mannwhitneyu, wilcoxon

    def ratio(x: NDArray[Any], y: NDArray[Any], axis: int = -1) -> Any:
        return x.mean(axis) / y.mean(axis)

    value = low = high = float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        if other_kl.any():
            value = float(ratio(kl, other_kl))
            low, high = interval(ratio, kl, other_kl, paired=paired)
    if paired:
        p = float(wilcoxon(kl, other_kl).pvalue) if (kl != other_kl).any() else 1.0
    else:
        p = float(mannwhitneyu(kl, other_kl).pvalue)
    won = int((kl < other_kl).sum()) if paired else None
    means = float(kl.mean()), float(other_kl.mean())
    return Comparison(first, other, len(kl), len(other_kl), *means, value, low, high, p, won)
