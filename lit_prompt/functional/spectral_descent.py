"""Spectral projected gradient descent over many independent problems at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# nonmonotone line search: the value may rise, but not above the largest of so many steps before
_MEMORY = 8
_SUFFICIENT = 1e-4
_MOST_HALVINGS = 40
_STEP_SIZES = (1e-10, 1e10)


@dataclass(frozen=True)
class Descent:
    """Where the problems ended.

    Attributes:
        point: ``[item, dim]``, float64.
        value: objective there, ``[item]``.
        gap: the measure that was to become small, ``[item]``.
        steps: steps made, ``[item]``.
    """

    point: Tensor
    value: Tensor
    gap: Tensor
    steps: Tensor


def spectral_descent(
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    project: Callable[[Tensor], Tensor],
    gap: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    tolerance: float,
    max_steps: int,
) -> Descent:
    """Minimises an objective over a set, from one start for each of many problems.

    Projected gradient steps of Barzilai and Borwein's length with the nonmonotone line search of Birgin, Martínez and
    Raydan (SIAM J. Optim. 10(4), 2000). Each problem has its own step lengths and its own end.

    Args:
        objective: takes points ``[row, dim]`` and the problems that they belong to ``[row]``; gives values ``[row]``
            and gradients ``[row, dim]``.
        project: maps points to the nearest ones of the set.
        gap: takes points of the set and gradients; gives what is to become small ``[row]``.
        start: ``[item, dim]``, float64.
        tolerance: a problem ends when its gap is at most this.
        max_steps: it ends after this many steps whatever its gap.

    Returns:
        The last points.
    """
    rows = torch.arange(len(start), device=start.device)
    u = project(start)
    value, gradient = objective(u, rows)
    history = value.unsqueeze(1).repeat(1, _MEMORY)
    length = 1.0 / gradient.norm(dim=1).clamp_min(1e-12)
    end = Descent(u.clone(), value.clone(), torch.full_like(value, torch.inf), torch.zeros_like(rows))
    for step in range(max_steps + 1):
        measure = gap(u, gradient)
        end.point[rows], end.value[rows], end.gap[rows], end.steps[rows] = u, value, measure, step
        going = ~(measure <= tolerance)
        if not going.all():
            rows, u, value, gradient, history, length = (x[going] for x in (rows, u, value, gradient, history, length))
        if len(rows) == 0 or step == max_steps:
            return end
        new, new_value, new_gradient = _line_search(objective, project, rows, u, gradient, history.amax(1), length)
        length = _spectral_length(new - u, new_gradient - gradient, length, step % 2 == 0)
        u, value, gradient = new, new_value, new_gradient
        history = torch.cat([history[:, 1:], value.unsqueeze(1)], 1)
    return end


def _line_search(
    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    project: Callable[[Tensor], Tensor],
    rows: Tensor,
    u: Tensor,
    gradient: Tensor,
    ceiling: Tensor,
    length: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shortens the steps that rise too far."""
    length = length.clone()
    new = project(u - length.unsqueeze(1) * gradient)
    value, new_gradient = objective(new, rows)
    for _ in range(_MOST_HALVINGS):
        slope = (gradient * (new - u)).sum(1).clamp_max(0.0)
        rounding = 1e-14 * ceiling.abs().clamp_min(1.0)
        high = (~(value <= ceiling + _SUFFICIENT * slope + rounding)).nonzero().flatten()
        if len(high) == 0:
            break
        length[high] *= 0.25
        new[high] = project(u[high] - length[high].unsqueeze(1) * gradient[high])
        value[high], new_gradient[high] = objective(new[high], rows[high])
    return new, value, new_gradient


def _spectral_length(moved: Tensor, turned: Tensor, length: Tensor, long: bool) -> Tensor:
    """Barzilai and Borwein's next step length, the long and the short one by turns; a doubled one without curvature."""
    curvature = (moved * turned).sum(1)
    found = (moved * moved).sum(1) / curvature if long else curvature / (turned * turned).sum(1)
    return torch.where(curvature > 0, found, 2.0 * length).nan_to_num(nan=1.0).clamp(*_STEP_SIZES)
