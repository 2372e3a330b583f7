"""Bootstrap confidence intervals."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

#: fewer values than this say too little for an interval
FEWEST = 5
#: numbers that a bootstrap holds at a time
_RESAMPLED_AT_ONCE = 2**21


def interval(statistic: Callable[..., Any], *samples: NDArray[Any], paired: bool = True) -> tuple[float, float]:
    """Lower and upper end of a statistic's 95 % interval, by percentiles of 9999 resamples.

    The statistic takes samples, ``[target]`` each, and an ``axis``. Paired are those of one position.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        samples, statistic, paired=paired, method="percentile", vectorized=True, rng=0,
        batch=max(_RESAMPLED_AT_ONCE // max(map(len, samples)), 1),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
