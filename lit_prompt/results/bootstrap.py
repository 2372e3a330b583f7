"""Bootstrap confidence intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: fewer values than this say too little for an interval
FEWEST = 5
#: numbers that a bootstrap holds at a time
_RESAMPLED_AT_ONCE = 2**21
#: more values than this are resampled in groups, of which there are about so many
_MOST, _GROUPS = 10_000, 5_000


def interval(statistic: Callable[..., Any], *samples: NDArray[Any], paired: bool = True) -> tuple[float, float]:
    """Lower and upper end of a statistic's 95 % interval, by percentiles of 9999 resamples.

    Of very many values the means of some at random are resampled in their place, which takes a fraction of the time and
    whose means spread as theirs do.

    Args:
        statistic: takes samples, ``[target]`` each, and an ``axis``; a function of their means.
        samples: of targets, ``[target]``.
        paired: whether values of one position belong together.
    """
    from scipy.stats import bootstrap

    samples = tuple(map(_in_groups, samples))
    found = bootstrap(
        samples, statistic, paired=paired, method="percentile", vectorized=True, rng=0,
        batch=max(_RESAMPLED_AT_ONCE // max(map(len, samples)), 1),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def _in_groups(sample: NDArray[Any]) -> NDArray[Any]:
    """Means of random groups of values, the same positions for samples of one length; few values as they are.

    Groups are equally large; the few values that are left over are left out.
    """
    if len(sample) <= _MOST:
        return sample
    size = len(sample) // _GROUPS
    mixed = np.random.default_rng(0).permutation(sample)
    means: NDArray[Any] = mixed[: len(sample) // size * size].reshape(-1, size).mean(1)
    return means
