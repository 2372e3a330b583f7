"""Mixtures of next-token distributions: draw a prompt with its weight, then a token.

KL(p || sum_k w_k q_k) is convex in the weights w, and may lie below the KL of every single prompt, and below the floor
that holds for one.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

#: Nats by which a mixture's weights may fall short of the best ones.
GAP = 1e-6
_MOST_ROUNDS = 500
_HALVINGS = 60
_SMALLEST = 1e-12
_COMPARED = 16
_POLISHED, _LENGTHS = 50, 30


class Mixture(NamedTuple):
    """Weights of components, and what they reach."""

    weights: Float64[Tensor, " component"]  #: of each component; they sum to 1
    kl: float  #: KL(p || mixture), nats
    gap: float  #: KL(p || mixture) less that of the best weights is certified to be at most this, nats


def gains(
    p: Float64[Tensor, " outcome"], q: Float64[Tensor, "component outcome"], m: Float64[Tensor, " outcome"]
) -> Float64[Tensor, " component"]:
    """The gain g_k = sum_v p_v q_kv / m_v of each component beside a mixture m: minus the slope of the KL towards it.

    A component with a gain above 1 lowers the KL, and no other does. For the optimal weights KL(w) - KL(w*) <=
    ln max_k g_k (by Jensen, as the KL of w* over m is that of a mean of q_k / m).
    """
    counts = p > 0
    return (q[:, counts] / m[counts]) @ p[counts]


def mixture_weights(
    p: Float64[Tensor, " outcome"],
    q: Float64[Tensor, "component outcome"],
    gap: float = GAP,
    start: Float64[Tensor, " component"] | None = None,
) -> Mixture:
    """The weights that minimise KL(p || sum_k w_k q_k), with a certificate.

    An active set: of the components of the largest gains the one comes in that does most by itself, with the weight of
    a line search (EM alone cannot revive a weight of zero), then Newton steps on the simplex of those that have a
    weight, EM steps where they do not help; what has lost its weight leaves. Never worse than the best single
    component. Where rounding ends the search first, steps that lower the gap alone follow; it may stay above ``gap``.

    Args:
        p: probabilities of the target.
        q: of each component.
        gap: stops when the certified gap is at most this, nats.
        start: weights to begin with; the best single component by default.

    Returns:
        Weights, KL and certified gap; the KL is infinite where no component has mass on a token of the target.
    """
    counts = p > 0
    p, q = p[counts], q[:, counts]
    singles = _kl(p, q)
    weights = torch.zeros(len(q), dtype=torch.float64)
    weights[int(singles.argmin())] = 1.0
    if start is not None and _kl(p, start @ q) < singles.min():
        weights = start / start.sum()
    if not bool(_kl(p, weights @ q).isfinite()):  # together they may have what each lacks
        weights = torch.full_like(weights, 1.0 / len(q))
    if not bool(_kl(p, weights @ q).isfinite()):
        return Mixture(weights, math.inf, math.inf)
    reached = float(_kl(p, weights @ q))
    for _ in range(_MOST_ROUNDS):
        m = weights @ q
        gained = (q / m) @ p
        if math.log(float(gained.max())) <= gap:
            break
        addition = _addition(p, m, q, gained.masked_fill(weights > 0, 0.0), _COMPARED)
        if addition is not None:
            place, share = addition
            weights = (1.0 - share) * weights
            weights[place] = share
        weights = _improved(p, q, weights)
        before, reached = reached, float(_kl(p, weights @ q))
        if reached >= before:
            weights = _certified(p, q, weights, reached, gap)
            break
    m = weights @ q
    return Mixture(weights, max(float(_kl(p, m)), 0.0), max(math.log(float(((q / m) @ p).max())), 0.0))


def line_search(
    p: Float64[Tensor, " outcome"], m: Float64[Tensor, " outcome"], q: Float64[Tensor, "candidate outcome"]
) -> tuple[Float64[Tensor, " candidate"], Float64[Tensor, " candidate"]]:
    """The best weight t of each candidate beside a mixture m, and KL(p || (1 - t) m + t q).

    By bisection of the slope, which rises with t. A candidate that does not help has the weight 0.
    """
    counts = p > 0
    p, m, q = p[counts], m[counts], q[:, counts]
    low, high = torch.zeros(len(q), dtype=torch.float64), torch.ones(len(q), dtype=torch.float64)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = ((m - q) / (m + middle.unsqueeze(1) * (q - m)).clamp_min(math.ulp(0.0))) @ p
        low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
    return low, _kl(p, m + low.unsqueeze(1) * (q - m))


def greedy_mixture(
    p: Float64[Tensor, " outcome"], bank: Float64[Tensor, "prompt outcome"], most: int, compared: int = _COMPARED
) -> tuple[list[int], Mixture]:
    """At most so many prompts of a bank, one added after another, and their optimal weights.

    The gain of a prompt is its slope, a poor ranking: the best few by it are compared.

    Args:
        p: probabilities of the target.
        bank: those after each prompt.
        most: components.
        compared: prompts whose weight is searched for at each addition.

    Returns:
        Positions in the bank, and the mixture; its gap is that of the weights of all prompts in the bank.
    """
    chosen = [int(_kl(p[p > 0], bank[:, p > 0]).argmin())]
    weights = torch.ones(1, dtype=torch.float64)
    last, reached = math.inf, float(_kl(p[p > 0], bank[chosen[0], p > 0]))
    while len(chosen) < most and reached < last - _SMALLEST:  # what was added may have left again
        m = weights @ bank[chosen]
        found = gains(p, bank, m)
        addition = _addition(p, m, bank, found, compared)
        if addition is None:
            break
        place, share = addition
        start = torch.cat([(1.0 - share) * weights, share.unsqueeze(0)])
        chosen.append(place)
        weights = mixture_weights(p, bank[chosen], start=start).weights
        kept = (weights > 0).nonzero().flatten().tolist()
        chosen, weights = [chosen[k] for k in kept], weights[kept]
        m = weights @ bank[chosen]
        last, reached = reached, float(_kl(p[p > 0], m[p > 0]))
    m = weights @ bank[chosen]
    gap = math.log(max(float(gains(p, bank, m).max()), 1.0))
    return chosen, Mixture(weights, max(float(_kl(p[p > 0], m[p > 0])), 0.0), gap)


def _addition(p: Tensor, m: Tensor, q: Tensor, gained: Tensor, compared: int) -> tuple[int, Tensor] | None:
    """The component that does most beside a mixture m, and its weight there; None where none has a gain above 1.

    The best few by gain are compared by a line search: the largest may be that of an outcome that hardly counts.
    """
    best = gained.topk(min(compared, len(q))).indices
    best = best[gained[best] > 1.0]
    if not len(best):
        return None
    shares, kl = line_search(p, m, q[best])
    place = int(kl.argmin())
    return int(best[place]), shares[place]


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension; p has mass everywhere."""
    return (p * (p.log() - q.log())).sum(-1)


def _improved(p: Tensor, q: Tensor, weights: Tensor) -> Tensor:
    """Weights of a smaller KL, by a Newton step on those that are not zero, or by EM; the rest stays at zero."""
    active = (weights > 0).nonzero().flatten()
    own, w = q[active], weights[active]
    for _ in range(_MOST_ROUNDS):
        m = w @ own
        ratio = own / m
        gained = ratio @ p
        if float((w * (gained - 1.0).abs()).sum()) < _SMALLEST:
            break
        better = _newton(p, own, w, ratio, gained)
        if better is None:
            better = w * gained  # EM: never raises the KL
        if float((better - w).abs().max()) < _SMALLEST:
            break
        w = better / better.sum()
        kept = w > _SMALLEST
        if not bool(kept.all()):
            active, own, w = active[kept], own[kept], w[kept] / w[kept].sum()
    found = torch.zeros_like(weights)
    found[active] = w
    return found


def _certified(p: Tensor, q: Tensor, weights: Tensor, most: float, gap: float) -> Tensor:
    """Weights of a smaller gap where the KL falls no further in float64: Newton steps that lower the largest gain.

    Their KL is at most ``most``.
    """
    for _ in range(_POLISHED):
        ratio = q / (weights @ q)
        gained = ratio @ p
        largest = float(gained.max())
        if math.log(largest) <= gap:
            break
        active = ((weights > 0) | (gained == largest)).nonzero().flatten()
        step = _direction(p, ratio[active], gained[active])
        if step is None:
            break
        tried = weights.repeat(_LENGTHS, 1)
        tried[:, active] += 0.5 ** torch.arange(_LENGTHS, dtype=torch.float64).unsqueeze(1) * step
        tried = tried.clamp_min(0.0)
        tried = tried / tried.sum(1, keepdim=True)
        m = tried @ q
        gains_there = torch.stack([((q / own) @ p).max() for own in m])
        better = gains_there.masked_fill(_kl(p, m) > most, torch.inf)
        if not float(better.min()) < largest:
            break
        weights = tried[int(better.argmin())]
    return weights


def _newton(p: Tensor, q: Tensor, w: Tensor, ratio: Tensor, gained: Tensor) -> Tensor | None:
    """Weights after a Newton step that keeps their sum, cut at the simplex; None where it does not lower the KL."""
    step = _direction(p, ratio, gained)
    if step is None:
        return None
    limits = torch.where(step < 0, -w / step, torch.inf)
    length, before = min(1.0, float(limits.min())), _kl(p, w @ q)
    for _ in range(30):
        tried = (w + length * step).clamp_min(0.0)
        if float(_kl(p, tried @ q / tried.sum())) < float(before) - 1e-16:
            return tried
        length /= 2
    return None


def _direction(p: Tensor, ratio: Tensor, gained: Tensor) -> Tensor | None:
    """The Newton step that keeps the sum of the weights; None where the system has no solution."""
    size = len(gained)
    hessian = (ratio * p) @ ratio.T
    hessian += 1e-12 * float(hessian.diagonal().max()) * torch.eye(size, dtype=torch.float64)
    system = torch.ones(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size], system[size, size] = hessian, 0.0
    wanted = torch.cat([gained - 1.0, torch.zeros(1, dtype=torch.float64)])
    # not lstsq, whose rounding depends on where in memory it works
    solution, failed = torch.linalg.solve_ex(system, wanted)
    step = solution[:size]
    return None if int(failed) or not bool(step.isfinite().all()) else step
