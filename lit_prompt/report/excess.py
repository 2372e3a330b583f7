"""What the certified floor says about results."""

import numpy as np
from numpy.typing import NDArray

from lit_prompt.report.study import Study, column
from lit_prompt.results.comparisons import CONFIDENCE, FEWEST, RESAMPLES

#: nats; a KL this close to the floor has reached it for all that matters
_REACHED = 0.01
#: a KL may be this much below a floor by rounding
_ROUNDING = 1e-6


def excess_sentences(study: Study) -> list[str]:
    """Of each method the mean excess with its confidence interval, and the share of targets at the floor, LM by LM."""
    clauses: dict[str, list[str]] = {}
    for series in study.main:
        excess = column(series.rows, "excess")
        excess = excess[~np.isnan(excess)]
        if len(excess) >= FEWEST:
            clauses.setdefault(series.label, []).append(f"on {series.lm} {_clause(excess)}")
    return [
        f"{label}: the mean KL above the certified floor is {'; '.join(found)}." for label, found in clauses.items()
    ]


def _clause(excess: NDArray[np.float64]) -> str:
    from scipy.stats import bootstrap

    low, high = bootstrap(
        (excess,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0, batch=100
    ).confidence_interval
    reached = int((excess <= _REACHED).sum())
    return (
        f"{excess.mean():.4f} nats (95 % interval {low:.4f} to {high:.4f}; {reached} of {len(excess)} targets, "
        f"{100 * reached / len(excess):.0f} %, are within {_REACHED} nats of their floor)"
    )


def floor_warning(study: Study) -> str | None:
    """A sentence if a KL is below a floor that should bound it; None if all is well."""
    rows = [row for series in study.series for row in series.rows]
    below = column(rows, "kl") < column(rows, "kl_floor") - _ROUNDING
    if not below.any():
        return None
    worst = min((row for row, is_below in zip(rows, below, strict=True) if is_below), key=lambda r: r["excess"])
    return (
        f"{int(below.sum())} results are below their floor, {worst['target_id']} the most: {worst['kl']:.6f} against "
        f"{worst['kl_floor']:.6f} nats. A certified floor excludes this; do not trust these floors."
    )
