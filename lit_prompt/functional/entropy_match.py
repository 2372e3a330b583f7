"""Distributions of a wanted entropy, from random logits: by gradient descent (the paper's way) and by temperature."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lit_prompt.functional.divergence import entropy
from lit_prompt.functional.precision import double
from lit_prompt.functional.threads import one_thread

_ADAM_STEPS = 5000
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
# nats; closer than this the loss and its gradient are so small that Adam crawls
_HAND_OVER = 0.02
_NEWTON_STEPS = 200
# of the logits that are worked on together: half a megabyte, so that a step's temporaries stay in the cache
_CACHED_ELEMENTS = 2**17


class EntropyMatchError(RuntimeError):
    """The wanted entropy was not reached."""


def _entropy_and_gradient(logits: Tensor) -> tuple[Tensor, Tensor]:
    """H in nats ``[item]`` and dH/dz = -p (log p + H) ``[item, vocab]`` of softmax(z)."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    h = -(p * log_p).sum(-1)
    return h, log_p.add_(h.unsqueeze(-1)).mul_(p.neg_())


@one_thread()
def match_entropy(logits: Tensor, target: Tensor, lr: float = 0.1, tolerance: float = 1e-3) -> Tensor:
    """Descends (H(softmax z) - h)^2 from the given logits until every item has its entropy.

    The construction of *random targets* in Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244).
    Adam takes every item near its entropy; from there on, plain gradient steps of the length that a linear
    model of H calls for (Gauss-Newton on the same loss) bring it within the tolerance, which a fixed Adam step would
    overshoot for ever. All operations are elementwise or along an item's row, on one thread: an item does not
    depend on the others.

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
    z = logits.detach().clone()
    for some, wanted in _cached(z, target.to(z)):
        _adam(some, wanted, lr)
        newton_to_entropy(some, wanted, tolerance)
        missed = _missed(some, wanted, tolerance)
        if missed is not None:
            raise EntropyMatchError(
                f"entropy {missed[0]:.4f} nats was missed by {missed[1]:.2g} nats (tolerance {tolerance:g})"
            )
    return z


@one_thread()
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
    z = double(logits).clone()
    for some, wanted in _cached(z, double(target)):
        low = torch.full_like(wanted, -40.0)  # bounds of the log of the temperature
        high = torch.full_like(wanted, 40.0)
        for _ in range(100):
            middle = (low + high) / 2
            too_flat = entropy(some / middle.exp().unsqueeze(-1)) > wanted
            high, low = torch.where(too_flat, middle, high), torch.where(too_flat, low, middle)
        some.div_(middle.exp().unsqueeze(-1))
        missed = _missed(some, wanted, tolerance)
        if missed is not None:
            raise EntropyMatchError(f"no temperature gives entropy {missed[0]:.6g} of {math.log(z.shape[-1]):.6g}")
    return z


def _cached(z: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of as many items as a core's cache holds with all that is computed of them."""
    rows = max(1, _CACHED_ELEMENTS // z.shape[-1])
    yield from zip(z.split(rows), target.split(rows), strict=True)


def _missed(logits: Tensor, target: Tensor, tolerance: float) -> tuple[float, float] | None:
    """The entropy that is missed most and by how much, in nats, in float64; None where all are hit."""
    error = (entropy(double(logits)) - double(target)).abs()
    if bool((error <= tolerance).all()):
        return None
    worst = int(error.argmax())  # one that is not a number, where there is one
    return float(target[worst]), float(error[worst])


def _adam(z: Tensor, target: Tensor, lr: float) -> None:
    """Adam (Kingma and Ba, 2015) on (H - h)^2, in place, until an item is near its entropy or past it."""
    side = torch.sign(_entropy_and_gradient(z)[0] - target)

    def near(error: Tensor, state: list[Tensor]) -> Tensor:
        return (error.abs() <= _HAND_OVER) | (torch.sign(error) != state[-1])

    def move(step: int, error: Tensor, gradient: Tensor, z: Tensor, state: list[Tensor]) -> None:
        mean, square, _ = state
        gradient.mul_(2 * error)
        mean.lerp_(gradient, 1 - _BETA1)
        square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = square.sqrt().div_(math.sqrt(1 - _BETA2**step)).add_(_EPS)
        z.addcdiv_(mean, scale, value=-lr / (1 - _BETA1**step))

    _until(near, move, z, target, [torch.zeros_like(z), torch.zeros_like(z), side], _ADAM_STEPS)


def newton_to_entropy(z: Tensor, target: Tensor, tolerance: float) -> None:
    """Gauss-Newton steps on (H - h)^2 until every item is well within the tolerance, or too many were made.

    Args:
        z: logits ``[item, vocab]``, float32; changed in place.
        target: wanted entropies in nats, ``[item]``, float32.
        tolerance: an item stops at a tenth of it.
    """

    def there(error: Tensor, state: list[Tensor]) -> Tensor:
        return error.abs() <= 0.1 * tolerance

    def move(step: int, error: Tensor, gradient: Tensor, z: Tensor, state: list[Tensor]) -> None:
        change = gradient.mul_(error / gradient.square().sum(-1, keepdim=True).clamp_min(1e-30))
        # one logit moves by 1 at most: far from the goal the linear model of H is wrong
        z.sub_(change.div_(change.abs().amax(-1, keepdim=True).clamp_min(1.0)))

    _until(there, move, z, target, [], _NEWTON_STEPS)


def _until(
    arrived: Callable[[Tensor, list[Tensor]], Tensor],
    move: Callable[[int, Tensor, Tensor, Tensor, list[Tensor]], None],
    z: Tensor,
    target: Tensor,
    state: list[Tensor],
    steps: int,
) -> None:
    """Moves items of ``z``, in place, until they have arrived; those that have leave the work to the others.

    Args:
        arrived: from errors H - h ``[item]`` and state to who has arrived, ``[item]``.
        move: changes ``z`` and state, given the number of the step, errors ``[item, 1]`` and dH/dz.
        z: logits, ``[item, vocab]``.
        target: wanted entropies, ``[item]``.
        state: further tensors ``[item, ...]`` that stay with their item.
        steps: the most that an item moves.
    """
    moving, item, state = z.clone(), torch.arange(len(z), device=z.device), list(state)
    for step in range(1, steps + 1):
        h, gradient = _entropy_and_gradient(moving)
        error = h - target[item]
        done = arrived(error, state)
        if done.any():
            z[item[done]] = moving[done]
            if done.all():
                return
            moving, item, error, gradient, *state = (x[~done] for x in (moving, item, error, gradient, *state))
        move(step, error.unsqueeze(-1), gradient, moving, state)
    z[item] = moving
