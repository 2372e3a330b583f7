"""What the certified floor says about results."""

import numpy as np

from lit_prompt.report.study import Study, column
from lit_prompt.results.comparisons import CONFIDENCE, FEWEST, RESAMPLES

#: nats; a KL this close to the floor has reached it for all that matters
_REACHED = 0.01
#: a KL may be this much below a floor by rounding
_ROUNDING = 1e-6


def excess_sentences(study: Study) -> list[str]:
    """For each method and LM the mean excess with its confidence interval, and the share of targets at the floor."""
    from scipy.stats import bootstrap

    sentences = []
    for series in study.main:
        excess = column(series.rows, "excess")
        excess = excess[~np.isnan(excess)]
        if len(excess) < FEWEST:
            continue
        interval = bootstrap(
            (excess,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0, batch=100
        ).confidence_interval
        at_floor = int((excess <= _REACHED).sum())
        sentences.append(
            f"{series.label} on {series.lm}: {excess.mean():.3f} nats above the certified floor on average (95 % "
            f"interval {interval.low:.3f} to {interval.high:.3f}, {len(excess)} targets); {at_floor} of them "
            f"({100 * at_floor / len(excess):.0f} %) are within {_REACHED} nats of it."
        )
    return sentences


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
