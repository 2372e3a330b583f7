"""L-BFGS over many independent problems at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_prompt.functional.spectral_descent import Descent

_MEMORY = 8
_SUFFICIENT = 1e-4
_MOST_HALVINGS = 40


def lbfgs(
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    gap: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    tolerance: float,
    max_steps: int,
) -> Descent:
    """Minimises an unconstrained objective from one start for each of many problems.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 1989) with a backtracking line search. Each problem has its own
    curvature pairs, step lengths and end; torch.optim.LBFGS would take all problems for one.

    Args:
        objective: takes points ``[row, dim]`` and the problems that they belong to ``[row]``; gives values ``[row]``
            and gradients ``[row, dim]``.
        gap: takes points and gradients; gives what is to become small ``[row]``.
        start: ``[item, dim]``, float64.
        tolerance: a problem ends when its gap is at most this.
        max_steps: it ends after this many steps whatever its gap.

    Returns:
        The last points.
    """
    rows = torch.arange(len(start), device=start.device)
    x = start
    value, gradient = objective(x, rows)
    pairs: list[tuple[Tensor, Tensor]] = []
    end = Descent(x.clone(), value.clone(), torch.full_like(value, torch.inf), torch.zeros_like(rows))
    for step in range(max_steps + 1):
        measure = gap(x, gradient)
        end.point[rows], end.value[rows], end.gap[rows], end.steps[rows] = x, value, measure, step
        going = ~(measure <= tolerance)
        if not going.all():
            rows, x, value, gradient = (t[going] for t in (rows, x, value, gradient))
            pairs = [(moved[going], turned[going]) for moved, turned in pairs]
        if len(rows) == 0 or step == max_steps:
            return end
        direction = -_apply_inverse_hessian(gradient, pairs)
        slope = (direction * gradient).sum(1)
        uphill = ~(slope < 0.0)
        direction = torch.where(uphill.unsqueeze(1), -gradient, direction)
        slope = torch.where(uphill, -(gradient * gradient).sum(1), slope)
        new, new_value, new_gradient = _backtrack(objective, rows, x, value, direction, slope)
        pairs = [*pairs, (new - x, new_gradient - gradient)][-_MEMORY:]
        x, value, gradient = new, new_value, new_gradient
    return end


def _apply_inverse_hessian(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion; pairs without curvature are passed over, row by row."""
    found, seen = gradient, []
    for moved, turned in reversed(pairs):
        curvature = (moved * turned).sum(1, keepdim=True)
        inverse = torch.where(curvature > 1e-16, 1.0 / curvature, 0.0)
        share = inverse * (moved * found).sum(1, keepdim=True)
        found = found - share * turned
        seen.append((inverse, share))
    scale = 1.0 / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)
    if pairs:
        moved, turned = pairs[-1]
        curvature, size = (moved * turned).sum(1, keepdim=True), (turned * turned).sum(1, keepdim=True)
        scale = torch.where(curvature > 1e-16, curvature / size, scale)
    found = found * scale
    for (moved, turned), (inverse, share) in zip(pairs, reversed(seen), strict=True):
        found = found + (share - inverse * (turned * found).sum(1, keepdim=True)) * moved
    return found


def _backtrack(
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    rows: Tensor,
    x: Tensor,
    value: Tensor,
    direction: Tensor,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shortens the steps that do not lower the value enough."""
    length = torch.ones_like(value)
    new = x + direction
    new_value, gradient = objective(new, rows)
    rounding = 1e-14 * value.abs().clamp_min(1.0)
    for _ in range(_MOST_HALVINGS):
        high = (~(new_value <= value + _SUFFICIENT * length * slope + rounding)).nonzero().flatten()
        if len(high) == 0:
            break
        length[high] *= 0.3
        new[high] = x[high] + length[high].unsqueeze(1) * direction[high]
        new_value[high], gradient[high] = objective(new[high], rows[high])
    return new, new_value, gradient
