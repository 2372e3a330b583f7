"""Distributions in which few tokens hold far more mass than the rest, at a wanted entropy."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from lit_prompt.functional.divergence import entropy
from lit_prompt.functional.entropy_match import newton_to_entropy
from lit_prompt.functional.precision import double
from lit_prompt.functional.row_loop import State, bisect, until_done
from lit_prompt.functional.rows import one_thread

_STEPS = 2000
# Adam forgets within ten steps: once an entropy is met the gradient is a thousandth of what it was, and a longer
# memory would make every step that small
_MEMORY = 0.9
# gradients of the least likely of 100,000 tokens are below the usual 1e-8, which would leave them where they are
_ADAM_EPS = 1e-15
_WEIGHT_DECAY = 0.97
# nats; largest accepted error of an entropy
_TOLERANCE = 1e-3
# nats; closer than this a few Gauss-Newton steps meet the entropy, which a fixed Adam step would always overshoot
_HAND_OVER = 0.05
# nats; how far above ln|V| an entropy that was computed in float32 may lie
_ROUNDING = 1e-5


def max_outlier_mass(entropy: Float[Tensor, "*item"], k: int, vocab_size: int) -> Float64[Tensor, "*item"]:
    r"""Largest mass m that k given tokens can hold in a distribution of entropy h nats over V = ``vocab_size`` tokens.

    A distribution with mass M on the k tokens has the entropy

    .. math:: H = h_b(M) + M H_k + (1 - M) H_{V-k}

    with h_b the entropy of a coin and the entropies within the k tokens and within the others, at most ln k and
    ln(V - k). So its entropy is at most that of the one that is uniform on the k and uniform on the others,

    .. math:: H(M) = -M \ln\frac{M}{k} - (1 - M) \ln\frac{1 - M}{V - k},

    which falls from ln V at M = k/V to ln k at M = 1. For h >= ln k let H(m) = h: the mass m is held, by that very
    distribution, and no larger one is, as its entropy would be below h. For h < ln k all mass fits on the k tokens,
    spread unevenly over them: m = 1. (Not every smaller mass is possible: half of it takes ln 2 nats.)

    Raises:
        ValueError: if k is not in [1, V - 1] or an entropy not in [0, ln V].
    """
    if not 1 <= k < vocab_size:
        raise ValueError(f"{k} outlier tokens are not among 1 to {vocab_size - 1} for {vocab_size} tokens")
    h = double(entropy)
    if not bool(((h >= 0) & (h <= math.log(vocab_size) + _ROUNDING)).all()):
        raise ValueError(f"entropies are not all in [0, {math.log(vocab_size):.4f}] nats: {h.tolist()}")
    h = h.flatten()

    def too_sharp(row: Tensor, m: Tensor) -> Tensor:
        coin = torch.special.entr(m) + torch.special.entr(1 - m)
        return coin + m * math.log(k) + (1 - m) * math.log(vocab_size - k) <= h[row]

    m, _ = bisect(too_sharp, torch.full_like(h, k / vocab_size), torch.ones_like(h))
    return torch.where(h <= math.log(k), 1.0, m).view(entropy.shape)


@dataclass
class OutlierDescent:
    """What a descent reached, measured in float64: entropies in nats, and the outliers' mass and its upper bound."""

    logits: Float32[Tensor, "item vocab"]
    entropy: Float64[Tensor, " item"]
    mass: Float64[Tensor, " item"]
    max_mass: Float64[Tensor, " item"]
    accepted: Bool[Tensor, " item"]


@one_thread()
def descend_to_outliers(
    logits: Float32[Tensor, "item vocab"],
    target: Float[Tensor, " item"],
    outlier_ids: Int64[Tensor, "item k"],
    a: float = 1.0,
    b: float = 100.0,
    delta: float = 0.05,
    lr: float = 0.1,
) -> OutlierDescent:
    r"""Descends a (H(softmax z) - h)^2 - b M, M being the mass of the outlier tokens, from copies of finite logits.

    The construction of *outlier targets* in Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244),
    for wanted entropies h (``target``) in nats and distinct outlier tokens. An item is accepted when its
    entropy is within 0.001 nats of h and M >= m - delta, with m from :func:`max_outlier_mass`; others are left where
    the last of 2,000 steps took them.

    Under a small b the entropy falls first, other tokens get the mass and keep it; under a large one the descent ends
    where the two gradients cancel, away from h. (Adam, with step size ``lr``, has no scale: only the ratio of a and b
    counts.) So b starts large and shrinks by 3 % in each step that finds M at (1 - delta) m or more. As soon as M is
    there and H is near h, Gauss-Newton steps on (H - h)^2 alone meet h, and the item is done unless they cost it the
    mass. The goal (1 - delta) m is never below m - delta; at high entropies, where m itself is below delta, it still
    asks for outliers. The other tokens are flattened no further than this takes: their random start is not lost.

    All operations are elementwise or along an item's row, on one thread: an item does not depend on the others. Items
    that are done leave the batch. Working memory is about ten times that of ``logits``.

    Raises:
        ValueError: if k is not in [1, V - 1] or an entropy not in [0, ln V].
    """
    max_mass = max_outlier_mass(target, outlier_ids.shape[1], logits.shape[1])
    goal = (1 - delta) * max_mass
    reached = _descend(logits, target.to(logits), outlier_ids, goal.to(logits), a, b, lr)
    log_p = double(reached).log_softmax(-1)
    h, mass = entropy(log_p), log_p.gather(1, outlier_ids).exp().sum(-1)
    accepted = ((h - double(target)).abs() <= _TOLERANCE) & (mass >= max_mass - delta)
    return OutlierDescent(reached, h, mass, max_mass, accepted)


def _descend(logits: Tensor, target: Tensor, ids: Tensor, goal: Tensor, a: float, b: float, lr: float) -> Tensor:
    """Adam until the outliers of each row hold their goal near the wanted entropy, Gauss-Newton from there."""

    def look(row: Tensor, z: Tensor, weight: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, State, State]:
        log_p = z.log_softmax(-1)
        p = log_p.exp()
        h = -(p * log_p).sum(-1)
        held = p.gather(1, ids[row])
        mass = held.sum(-1)
        weight = torch.where(mass >= goal[row], _WEIGHT_DECAY * weight, weight)
        error = h - target[row]
        done = (mass >= goal[row]) & (error.abs() <= _HAND_OVER)
        if done.any():
            near = row[done]
            done = done.masked_scatter(done, _keeps_goal(z[done], target[near], ids[near], goal[near]))
        # gradient of the loss: p (-2a (H - h)(log p + H) + b M), less b p for the outliers
        gradient = log_p.add_(h.unsqueeze(-1)).mul_((-2 * a * error).unsqueeze(-1))
        gradient.add_((weight * mass).unsqueeze(-1)).mul_(p).scatter_add_(1, ids[row], -weight.unsqueeze(-1) * held)
        return done, (z,), (z, weight, first, second, gradient)

    def move(step: int, _: Tensor, z: Tensor, weight: Tensor, first: Tensor, second: Tensor, gradient: Tensor) -> State:
        # both averages lack the factor (1 - memory) and Adam's correction for the first steps: together they make scale
        first.mul_(_MEMORY).add_(gradient)
        second.mul_(_MEMORY).add_(gradient.square_())
        scale = (1 - _MEMORY) / (1 - _MEMORY**step)
        z = z - (lr * scale) * first / (math.sqrt(scale) * second.sqrt()).add_(_ADAM_EPS)
        return z, weight, first, second

    start = logits, torch.full_like(goal, b), torch.zeros_like(logits), torch.zeros_like(logits)
    (z,), _ = until_done(look, move, start, _STEPS)
    return newton_to_entropy(z, target, _TOLERANCE)


def _keeps_goal(z: Tensor, target: Tensor, ids: Tensor, goal: Tensor) -> Tensor:
    """Whether Gauss-Newton steps on (H - h)^2 meet the entropy without costing the outliers their goal, ``[item]``."""
    log_p = newton_to_entropy(z, target, _TOLERANCE).log_softmax(-1)
    p = log_p.exp()
    h, mass = -(p * log_p).sum(-1), p.gather(1, ids).sum(-1)
    return ((h - target).abs() <= 0.5 * _TOLERANCE) & (mass >= goal)
