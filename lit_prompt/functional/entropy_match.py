"""Distributions of a wanted entropy, from random logits: by gradient descent (the paper's way) and by temperature."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lit_prompt.functional.divergence import entropy
from lit_prompt.functional.precision import double
from lit_prompt.functional.row_loop import State, bisect, until_done
from lit_prompt.functional.rows import one_thread

_ADAM_STEPS = 5000
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
# nats; closer than this the loss and its gradient are so small that Adam crawls
_HAND_OVER = 0.02
_NEWTON_STEPS = 200
# logits per block: half a megabyte, so that a step's temporaries stay in the cache
_CACHED_ELEMENTS = 2**17


class EntropyMatchError(RuntimeError):
    """The wanted entropy was not reached."""


def _entropy_and_gradient(
    logits: Float[Tensor, "item vocab"],
) -> tuple[Float[Tensor, " item"], Float[Tensor, "item vocab"]]:
    """H in nats and dH/dz = -p (log p + H) of softmax(z)."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    h = -(p * log_p).sum(-1)
    return h, log_p.add_(h.unsqueeze(-1)).mul_(p.neg_())


@one_thread()
def match_entropy(
    logits: Float32[Tensor, "item vocab"], target: Float[Tensor, " item"], lr: float = 0.1, tolerance: float = 1e-3
) -> Float32[Tensor, "item vocab"]:
    """Descends (H(softmax z) - h)^2 from copies of the logits until H is within ``tolerance`` nats of h, in float64.

    The construction of *random targets* in Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244),
    for wanted entropies h (``target``) in [0, ln|V|] nats. Adam, with step size ``lr``, takes every item near its
    entropy; from there on, plain gradient steps of the length that a linear model of H calls for (Gauss-Newton on the
    same loss) bring it within the tolerance, which a fixed Adam step would overshoot for ever. All operations are
    elementwise or along an item's row, on one thread: an item does not depend on the others.

    Raises:
        EntropyMatchError: if an item does not get there.
    """

    def solve(z: Tensor, wanted: Tensor) -> Tensor:
        return newton_to_entropy(_adam(z, wanted, lr), wanted, tolerance)

    return _in_blocks(solve, logits.detach(), target.to(logits), tolerance)


@one_thread()
def temperature_for_entropy(
    logits: Float[Tensor, "item vocab"], target: Float[Tensor, " item"]
) -> Float64[Tensor, "item vocab"]:
    """Logits divided by the temperature at which their softmax has the wanted entropy in nats, to 1e-6, by bisection.

    H(softmax(z / t)) grows with t, from the log of the number of maxima to ln|V|.

    Raises:
        EntropyMatchError: if an entropy is out of reach.
    """

    def divide(z: Tensor, wanted: Tensor) -> Tensor:
        def too_flat(row: Tensor, log_temperature: Tensor) -> Tensor:
            return entropy(z[row] / log_temperature.exp().unsqueeze(-1)) > wanted[row]

        low, high = bisect(too_flat, torch.full_like(wanted, -40.0), torch.full_like(wanted, 40.0))
        return z / ((low + high) / 2).exp().unsqueeze(-1)

    return _in_blocks(divide, double(logits), double(target), tolerance=1e-6)


def _in_blocks(solve: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor, tolerance: float) -> Tensor:
    """Solves as many items at a time as fit a core's cache with their temporaries, and checks them."""
    rows = max(1, _CACHED_ELEMENTS // logits.shape[-1])
    solved = []
    for z, wanted in zip(logits.split(rows), target.split(rows), strict=True):
        solved.append(solve(z, wanted))
        error = (entropy(double(solved[-1])) - double(wanted)).abs()
        if not bool((error <= tolerance).all()):
            worst = int(error.argmax())  # a NaN, where there is one
            raise EntropyMatchError(
                f"entropy {wanted[worst]:.4f} nats was missed by {error[worst]:.2g} nats (tolerance {tolerance:g})"
            )
    return torch.cat(solved)


def _adam(z: Tensor, target: Tensor, lr: float) -> Tensor:
    """Adam (Kingma and Ba, 2015) on (H - h)^2 until an item is near its entropy or past it."""
    side = torch.sign(_entropy_and_gradient(z)[0] - target)

    def look(row: Tensor, z: Tensor, mean: Tensor, square: Tensor) -> tuple[Tensor, State, State]:
        h, gradient = _entropy_and_gradient(z)
        error = h - target[row]
        near = (error.abs() <= _HAND_OVER) | (torch.sign(error) != side[row])
        return near, (z,), (z, mean, square, gradient.mul_(2 * error.unsqueeze(-1)))

    def move(step: int, _: Tensor, z: Tensor, mean: Tensor, square: Tensor, gradient: Tensor) -> State:
        mean.lerp_(gradient, 1 - _BETA1)
        square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = square.sqrt().div_(math.sqrt(1 - _BETA2**step)).add_(_EPS)
        return z.addcdiv(mean, scale, value=-lr / (1 - _BETA1**step)), mean, square

    (found,), _ = until_done(look, move, (z, torch.zeros_like(z), torch.zeros_like(z)), _ADAM_STEPS)
    return found


def newton_to_entropy(
    z: Float[Tensor, "item vocab"], target: Float[Tensor, " item"], tolerance: float
) -> Float[Tensor, "item vocab"]:
    """Gauss-Newton steps on (H - h)^2 until every item is within a tenth of the tolerance, or the steps are used up.

    Float32 sums over hundreds of thousands of tokens can be wrong by the tolerance; such items take steps in float64.
    """

    def look(row: Tensor, z: Tensor) -> tuple[Tensor, State, State]:
        h, gradient = _entropy_and_gradient(z)
        error = h - target[row]
        return error.abs() <= 0.1 * tolerance, (z,), (z, error.unsqueeze(-1), gradient)

    def move(_: int, __: Tensor, z: Tensor, error: Tensor, gradient: Tensor) -> State:
        change = gradient.mul_(error / gradient.square().sum(-1, keepdim=True).clamp_min(1e-30))
        # one logit moves by 1 at most: far from the goal the linear model of H is wrong
        return (z - change.div_(change.abs().amax(-1, keepdim=True).clamp_min(1.0)),)

    (found,), _ = until_done(look, move, (z,), _NEWTON_STEPS)
    if found.dtype == torch.float64:
        return found
    off = (entropy(double(found)) - double(target)).abs() > tolerance
    found[off] = newton_to_entropy(double(found[off]), double(target[off]), tolerance).to(found)
    return found
