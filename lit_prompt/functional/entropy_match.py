"""Distributions of a wanted entropy, from random logits: by gradient descent (the paper's way) and by temperature."""

import math

import torch
from torch import Tensor

from lit_prompt.functional.divergence import entropy

_ADAM_STEPS = 5000
# nats; closer than this the loss and its gradient are so small that Adam crawls
_HAND_OVER = 0.02
_NEWTON_STEPS = 200


class EntropyMatchError(RuntimeError):
    """The wanted entropy was not reached."""


def _entropy_and_gradient(logits: Tensor) -> tuple[Tensor, Tensor]:
    """H in nats ``[item]`` and dH/dz = -p (log p + H) ``[item, vocab]`` of softmax(z)."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    h = -(p * log_p).sum(-1)
    return h, -p * (log_p + h.unsqueeze(-1))


def _twice(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A lone row beside its copy: torch splits the sum over a long row between threads only where it is alone.

    The split rounds otherwise, and an item would depend on whether it has company.
    """
    return logits.repeat(2, 1), target.repeat(2)


def match_entropy(logits: Tensor, target: Tensor, lr: float = 0.1, tolerance: float = 1e-3) -> Tensor:
    """Descends (H(softmax z) - h)^2 from the given logits until every item has its entropy.

    The construction of *random targets* in Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244).
    Adam takes every item near its entropy; from there on, plain gradient steps of the length that a linear
    model of H calls for (Gauss-Newton on the same loss) bring it within the tolerance, which a fixed Adam step would
    overshoot for ever. All operations are elementwise or along an item's row: an item does not depend on the others.

    Args:
        logits: ``[item, vocab]``, float32; the starting points, not changed.
        target: wanted entropies in nats, ``[item]``, each in [0, ln|V|].
        lr: Adam's step size.
        tolerance: largest accepted |H - h| in nats.

    Returns:
        Logits ``[item, vocab]``, float32, with |H(softmax z) - target| <= tolerance, measured in float64.

    Raises:
        EntropyMatchError: if an item does not get there.
    """
    if len(logits) == 1:
        return match_entropy(*_twice(logits, target), lr, tolerance)[:1]
    z = logits.detach().clone()
    target = target.to(z)
    start = torch.sign(entropy(z) - target)
    done = start == 0
    optimizer = torch.optim.Adam([z], lr=lr)
    for _ in range(_ADAM_STEPS):
        h, gradient = _entropy_and_gradient(z)
        error = h - target
        done |= torch.sign(error) != start
        done |= error.abs() <= _HAND_OVER
        if done.all():
            break
        kept = z[done]
        z.grad = 2 * error.unsqueeze(-1) * gradient
        optimizer.step()
        z[done] = kept
    for _ in range(_NEWTON_STEPS):
        h, gradient = _entropy_and_gradient(z)
        error = h - target
        done = (error.abs() <= 0.1 * tolerance).unsqueeze(-1)
        if done.all():
            break
        step = (error / gradient.square().sum(-1).clamp_min(1e-30)).unsqueeze(-1) * gradient
        # one logit moves by 1 at most: far from the goal the linear model of H is wrong
        step = step / step.abs().amax(-1, keepdim=True).clamp_min(1.0)
        z = torch.where(done, z, z - step)
    error = (entropy(z.double()) - target.double()).abs()
    if not bool((error <= tolerance).all()):
        worst = int(error.argmax())
        raise EntropyMatchError(
            f"entropy {float(target[worst]):.4f} nats was missed by {float(error[worst]):.2g} nats "
            f"(tolerance {tolerance:g})"
        )
    return z


def temperature_for_entropy(logits: Tensor, target: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Logits divided by the temperature at which their softmax has the wanted entropy, by bisection.

    H(softmax(z / t)) grows with t, from the log of the number of maxima to ln|V|.

    Args:
        logits: ``[item, vocab]``.
        target: wanted entropies in nats, ``[item]``.
        tolerance: largest accepted |H - h| in nats.

    Returns:
        Logits ``[item, vocab]``, float64.

    Raises:
        EntropyMatchError: if an entropy is out of reach.
    """
    if len(logits) == 1:
        return temperature_for_entropy(*_twice(logits, target), tolerance)[:1]
    z, target = logits.double(), target.double()
    low = torch.full_like(target, -40.0)  # bounds of the log of the temperature
    high = torch.full_like(target, 40.0)
    for _ in range(100):
        middle = (low + high) / 2
        too_flat = entropy(z / middle.exp().unsqueeze(-1)) > target
        high, low = torch.where(too_flat, middle, high), torch.where(too_flat, low, middle)
    z = z / middle.exp().unsqueeze(-1)
    error = (entropy(z) - target).abs()
    if not bool((error <= tolerance).all()):
        worst = int(error.argmax())
        raise EntropyMatchError(
            f"no temperature gives entropy {float(target[worst]):.6g} of {math.log(z.shape[-1]):.6g}"
        )
    return z
