"""Descent over many independent problems at once: what its methods have in common."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Takes points ``[row, dim]`` and the problems that they belong to ``[row]``; gives values ``[row]`` and gradients
#: ``[row, dim]``.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_SUFFICIENT = 1e-4
_MOST_CUTS = 40


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


@dataclass(frozen=True)
class Rows:
    """The problems that are under way.

    Attributes:
        problem: which ones, ``[row]``.
        point: where they are, ``[row, dim]``, float64.
        value: objective there, ``[row]``.
        gradient: and its gradient, ``[row, dim]``.
        memory: what the method remembers, tensors ``[row, ...]``.
    """

    problem: Tensor
    point: Tensor
    value: Tensor
    gradient: Tensor
    memory: tuple[Tensor, ...]

    def those(self, which: Tensor) -> "Rows":
        """Some of the rows, by a mask ``[row]``."""
        memory = tuple(x[which] for x in self.memory)
        return Rows(self.problem[which], self.point[which], self.value[which], self.gradient[which], memory)


def descend(
    rows: Rows,
    step: Callable[[Rows, int], Rows],
    gap: Callable[[Tensor, Tensor], Tensor],
    tolerance: float,
    max_steps: int,
) -> Descent:
    """Repeats a method's step for every problem until its own end.

    Args:
        rows: all problems at their starts.
        step: gives the rows after the step of that number.
        gap: takes points and gradients; gives what is to become small ``[row]``.
        tolerance: a problem ends when its gap is at most this, and when a step leaves it where it is.
        max_steps: it ends after this many steps whatever its gap.

    Returns:
        The last points.
    """
    unknown = torch.full_like(rows.value, torch.inf)
    end = Descent(rows.point.clone(), rows.value.clone(), unknown, torch.zeros_like(rows.problem))
    stuck = torch.zeros_like(rows.problem, dtype=torch.bool)
    for number in range(max_steps + 1):
        which, measure = rows.problem, gap(rows.point, rows.gradient)
        end.point[which], end.value[which], end.gap[which], end.steps[which] = rows.point, rows.value, measure, number
        going = ~((measure <= tolerance) | stuck)
        if not going.all():
            rows = rows.those(going)
        if len(rows.problem) == 0:
            break
        if number < max_steps:
            before = rows.point
            rows = step(rows, number)
            stuck = (rows.point == before).all(1)
    return end


def backtrack(
    objective: Objective,
    rows: Rows,
    trial: Callable[[Tensor, Tensor], Tensor],
    length: Tensor,
    ceiling: Tensor,
    cut: float,
    rounding: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shortens steps until each has lowered its value enough (Armijo's rule).

    Args:
        objective: of the problems.
        rows: before the step.
        trial: takes row numbers and step lengths, gives the points that those lead to.
        length: first step lengths ``[row]``.
        ceiling: values from which to descend ``[row]``.
        cut: what a step that is too long is multiplied by.
        rounding: relative error of the values.

    Returns:
        New points, values and gradients; the old ones where no length will do.
    """
    length = length.clone()
    every = torch.arange(len(length), device=length.device)
    point = trial(every, length)
    value, gradient = objective(point, rows.problem)
    allowance = rounding * ceiling.abs().clamp_min(1.0)
    for _ in range(_MOST_CUTS):
        slope = (rows.gradient * (point - rows.point)).sum(1).clamp_max(0.0)
        high = (~(value <= ceiling + _SUFFICIENT * slope + allowance)).nonzero().flatten()
        if len(high) == 0:
            return point, value, gradient
        length[high] *= cut
        point[high] = trial(high, length[high])
        value[high], gradient[high] = objective(point[high], rows.problem[high])
    point[high], value[high], gradient[high] = rows.point[high], rows.value[high], rows.gradient[high]
    return point, value, gradient
