"""How many draws tell an LM from a target: the power of the likelihood-ratio test, by Fourier transform.

The best test of H0 (draws come from the target p) against H1 (they come from the LM q) rejects where the sum S of
their log-ratios l = log q - log p is large (Neyman and Pearson, 1933). Its power after n draws follows from the
distribution of S alone, which is n convolutions of that of l. We put l on a grid and take the n-th power of its Fourier
transform, as is done to compose privacy losses (Koskela, Jälkö and Honkela, 2020, arXiv 1906.03049). That is right for
few draws and heavy tails, where a normal approximation is not, costs as much for n = 10^9 as for n = 3, and has no
noise, as a simulation has. At the test's threshold S is a few nats, whatever p and q are, so that a window of 64 nats
holds all that matters.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lit_prompt.functional.divergence import normalize_log_probs
from lit_prompt.functional.precision import double
from lit_prompt.functional.row_loop import State, until_done
from lit_prompt.functional.rows import one_thread

_WINDOW = 64.0  # nats; mass beyond it wraps around, less than exp(-16) of it
# an outcome with a larger log-ratio is certain to tell: draws that undo it have a probability of exp(-28)
_CERTAIN = 30.0
_CELLS, _FINE_CELLS = 2**14, 2**16
_FEW_DRAWS = 32.0  # up to so many they are counted on the fine grid
_SMALL = 8  # log-ratios below so many cells are put together
_LOWEST = -8.0  # nats; the threshold is above it wherever the power is not above log(exp(-8)) = 0.9997
_RELATIVE = 1e-3  # to which large numbers of draws are found
_MOST_DRAWS = 1e15  # log-ratios of 1e-7, the rounding of float32
_ELEMENTS_PER_BLOCK = 2**18


@dataclass(frozen=True)
class _Ratios:
    """Distributions of log-ratios on a grid of the window, a row for each target.

    What stands on the grid is sqrt(p q), from which p and q follow: they are its product with exp(-l/2) and exp(l/2).
    It falls off on both sides of the window, and its sum is the Bhattacharyya coefficient.
    """

    log_transform: Tensor  #: logarithm of its Fourier transform ``[target, frequency]``, complex
    shift: Float64[Tensor, " target"]  #: log-ratio of the grid's origin, nats
    rate: Float64[Tensor, " target"]  #: minus the logarithm of the exact Bhattacharyya coefficient
    cells: int

    def rows(self, index: Tensor) -> "_Ratios":
        return _Ratios(self.log_transform[index], self.shift[index], self.rate[index], self.cells)


@one_thread()
def draws_to_tell(
    log_p: Float[Tensor, "target outcome"],
    log_q: Float[Tensor, "target outcome"],
    level: float = 0.05,
    power: float = 0.8,
) -> Float64[Tensor, " target"]:
    """Number of draws after which the best test there is tells the LM q from the target p.

    The smallest n for which the likelihood-ratio test of n draws, randomised where it must be to reject p with
    probability ``level``, rejects q with probability ``power``. More draws never have less power, so that a bisection
    finds it. An outcome that only the LM gives tells at once and costs no level; draws with one that only the target
    has are the target's. Both are exact.

    Log-ratios are split between two points of the grid so that both p and q keep their mass there (Doroshenko et al.,
    Connect the Dots, PoPETs 2022): the split distributions are as easy to tell or easier, so that n is never too high,
    and a power is less than 0.001 too high. Ratios below 0.03 nats (0.008 for few draws) are put together to three
    points that keep their mass and the Hellinger distance, so that they count in full however many and small they are.

    Args:
        log_p: log-probabilities of the targets, or logits; ``-inf`` for none.
        log_q: those of the LM.
        level: probability of the test to reject the target.
        power: probability to reject the LM, above ``level``.

    Returns:
        Whole numbers, exact to 0.1 %; ``inf`` where more than 1e15 draws are needed, as p and q are equal to
        rounding.
    """
    log_p, log_q = double(log_p), double(log_q)
    found = torch.full((len(log_p),), math.inf, dtype=torch.float64)
    for rows in torch.arange(len(log_p)).split(_ELEMENTS_PER_BLOCK // _CELLS) if len(log_p) else ():
        found[rows] = _search(_on_grid(log_p[rows], log_q[rows], _CELLS), None, level, power)
    few = (found <= _FEW_DRAWS).nonzero().squeeze(1)
    for rows in few.split(_ELEMENTS_PER_BLOCK // _FINE_CELLS) if len(few) else ():
        found[rows] = _search(_on_grid(log_p[rows], log_q[rows], _FINE_CELLS), found[rows], level, power)
    return found


def _on_grid(log_p: Tensor, log_q: Tensor, cells: int) -> _Ratios:
    """Log-ratios of all outcomes, put on the grid."""
    width = _WINDOW / cells
    shifts, rates, lost, weights = [], [], [], []
    for row_p, row_q in zip(log_p, log_q, strict=True):
        a, b = normalize_log_probs(row_p), normalize_log_probs(row_q)
        given = (a > -math.inf) | (b > -math.inf)  # by the target or the LM
        a, b = a[given], b[given]
        ratio = b - a
        only = ratio.abs() > _CERTAIN
        # 1 - sum sqrt(p q), exact also where it is 1e-15
        deficit = 0.5 * (torch.where(ratio > 0, b, a)[only].exp().sum())
        ratio, root = ratio[~only], ((a + b)[~only] / 2).exp()
        deficit = deficit + 2 * (root * (ratio / 4).sinh().square()).sum()
        rates.append(-torch.log1p(-deficit.clamp_max(1.0)))
        small = ratio.abs() <= _SMALL * width
        near, near_root = ratio[small], root[small]
        # where p and q of all small ones have the same mass
        up, down = ((near_root * (sign * near / 2).exp()).sum() for sign in (1, -1))
        shift = (up / down).log() if len(near) else torch.zeros((), dtype=torch.float64)
        outer = 2 * _SMALL * width
        spread = (near_root * ((near - shift) / 4).sinh().square()).sum() / math.sinh(outer / 4) ** 2
        place = (ratio[~small] - shift) / width
        cell = place.floor()
        high, low = ((part * (width / 2)).sinh() / math.sinh(width / 2) for part in (place - cell, cell + 1 - place))
        far = root[~small]
        weight = torch.zeros(cells, dtype=torch.float64)
        index = cell.long()
        weight.index_add_(0, index % cells, far * low)
        weight.index_add_(0, (index + 1) % cells, far * high)
        weight[2 * _SMALL] += spread / 2
        weight[-2 * _SMALL] += spread / 2
        shifts.append(shift)
        lost.append(deficit + (far * (1 - low - high)).sum())
        weights.append(weight)
    weight = torch.stack(weights)
    weight[:, 0] = 0.0  # of no effect on what follows
    transform = torch.fft.rfft(weight)
    # the transform less 1, as it may be 1 to within 1e-15
    transform = transform - transform[:, :1] - torch.stack(lost).unsqueeze(1)
    return _Ratios(torch.log1p(transform), torch.stack(shifts), torch.stack(rates), cells)


def _search(ratios: _Ratios, near: Tensor | None, level: float, power: float) -> Tensor:
    """Smallest number of draws ``[target]`` with that power, by bisection, from what it is near."""
    # level * (1 - power) <= BC^(2 n) suffices, and power - level <= sqrt(1 - BC^(2 n)) is necessary
    enough = -0.5 * math.log(level * (1 - power)) / ratios.rate
    too_few = -0.5 * math.log1p(-((power - level) ** 2)) / ratios.rate
    high, low = (enough.ceil() + 1).clamp_min(1.0), (too_few.ceil() - 1).clamp_min(0.0)
    if near is not None:
        low, high = (0.9 * near - 2).floor().clamp_min(0.0), (1.1 * near + 2).ceil()
    possible = enough <= _MOST_DRAWS

    def look(_: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, State, State]:
        return high - low <= torch.clamp_min(_RELATIVE * low, 1.0), (high,), (low, high)

    def move(_: int, row: Tensor, low: Tensor, high: Tensor) -> State:
        middle = ((low + high) / 2).floor()
        reached = _power(chosen.rows(row), middle, level) >= power
        return torch.where(reached, low, middle), torch.where(reached, middle, high)

    found = torch.full_like(high, math.inf)
    chosen = ratios.rows(possible)
    if possible.any():
        (found[possible],), _ = until_done(look, move, (low[possible], high[possible]), 64)
    return found


def _power(ratios: _Ratios, draws: Tensor, level: float) -> Tensor:
    """Power ``[target]`` of the test after so many draws ``[target]``."""
    width, n = _WINDOW / ratios.cells, draws.unsqueeze(1)
    log = ratios.log_transform
    root = torch.fft.irfft(torch.polar((n * log.real).exp(), n * log.imag), n=ratios.cells)
    origin = draws * ratios.shift
    first = ((-_WINDOW / 2 - origin) / width).ceil().unsqueeze(1) + torch.arange(ratios.cells, dtype=torch.float64)
    total = first * width + origin.unsqueeze(1)  # log-ratio of all draws, ascending
    root = root.gather(1, first.long() % ratios.cells)
    p = root * (-0.5 * total.clamp_min(_LOWEST)).exp() * (total >= _LOWEST)
    q = root * (0.5 * total.clamp_max(-_LOWEST)).exp() * (total <= -_LOWEST)
    rejected = p.flip(1).cumsum(1).flip(1)  # p's mass at this log-ratio and above
    at = ((rejected > level).sum(1, keepdim=True) - 1).clamp_min(0)  # the threshold's cell
    inside = p.gather(1, at)
    part = ((level - (rejected.gather(1, at) - inside)) / inside.clamp_min(1e-300)).clamp(0.0, 1.0)
    missed = (q.cumsum(1).gather(1, at) - part * q.gather(1, at)).squeeze(1)
    return 1 - missed
