"""Whether draws can come from a target: draws, and the likelihood-ratio test of their counts."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lit_prompt.functional.divergence import normalize_log_probs
from lit_prompt.functional.precision import double

_ELEMENTS_PER_BLOCK = 2**20
_ROUNDING = 1e-9  # relative; of sums in another order


def draw_outcomes(log_q: Float[Tensor, " outcome"], draws: int, seed: int) -> Int64[Tensor, " draw"]:
    """Draws outcomes independently: the same ones for a seed on every machine, as all is done in float64 on the CPU.

    Args:
        log_q: log-probabilities or logits, ``-inf`` for what is never drawn.
        draws: how many.
        seed: of the generator.
    """
    q = normalize_log_probs(double(log_q)).exp().numpy()
    return torch.from_numpy(_draw(q, draws, np.random.default_rng(seed)))


def goodness_of_fit(
    counts: Int64[Tensor, " outcome"], log_p: Float[Tensor, " outcome"], seed: int = 0, replicates: int = 9999
) -> float:
    """P-value of the hypothesis that the counts of independent draws come from the target p.

    The likelihood-ratio (G) test, whose statistic is the sum of c log(c / (N p)) over outcomes drawn c times of N.
    Its distribution is that of as many draws from p, simulated, and not chi-squared, which it is far from where most of
    tens of thousands of outcomes are never drawn. The p-value (1 + b) / (1 + replicates), where b of the replicates are
    as unlike p or more, is exact: under the hypothesis it is at most x with a probability of at most x (Dwass, 1957).

    Args:
        counts: how often each outcome was drawn.
        log_p: log-probabilities of the target, or logits; ``-inf`` for outcomes that it does not have.
        seed: of the replicates.
        replicates: how many times p is drawn from.

    Returns:
        Between 1 / (1 + replicates) and 1; 0 where an outcome was drawn that the target does not have; 1 for no draws.
    """
    log_p = normalize_log_probs(double(log_p))
    drawn = counts.cpu().numpy()
    possible = (log_p > -math.inf).numpy()
    if drawn[~possible].any():
        return 0.0
    log, number = log_p.numpy()[possible], int(drawn.sum())
    if number == 0:
        return 1.0
    at = np.flatnonzero(drawn[possible])
    found = float((drawn[possible][at] * (np.log(drawn[possible][at]) - log[at])).sum())
    worse = int((_statistics(log, number, replicates, np.random.default_rng(seed)) >= found - _slack(found)).sum())
    return (1 + worse) / (1 + replicates)


def _slack(value: float) -> float:
    return _ROUNDING * max(1.0, abs(value))


def _draw(p: np.ndarray, draws: int | tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Outcomes by inversion of the cumulated probabilities; none of probability 0."""
    cumulated = p.cumsum()
    places = cumulated.searchsorted(generator.random(draws) * cumulated[-1], side="right")
    return np.minimum(places, np.flatnonzero(p)[-1])  # where the product is rounded up


def _statistics(log_p: np.ndarray, draws: int, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Sums of c log(c / p) over the outcomes of each replicate."""
    p = np.exp(log_p)
    many = draws > len(p)  # counts of all outcomes are fewer numbers than the draws
    rows = max(1, _ELEMENTS_PER_BLOCK // (len(p) if many else draws))
    found = []
    for start in range(0, replicates, rows):
        size = min(rows, replicates - start)
        if many:
            counts = generator.multinomial(draws, p / p.sum(), size=size)
            logs = np.log(np.maximum(counts, 1))
            found.append((counts * (logs - log_p)).sum(1))
        else:
            outcomes = np.sort(_draw(p, (size, draws), generator), axis=1)
            found.append(_runs(outcomes) - log_p[outcomes].sum(1))
    return np.concatenate(found)


def _runs(outcomes: np.ndarray) -> np.ndarray:
    """Sums of c log c over the counts c in each row of sorted outcomes."""
    rows, draws = outcomes.shape
    new = np.ones((rows, draws), dtype=bool)
    new[:, 1:] = outcomes[:, 1:] != outcomes[:, :-1]
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, rows * draws))
    return np.bincount(starts // draws, counts * np.log(counts), rows)
