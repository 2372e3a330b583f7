"""Descent over many independent problems at once: what its methods have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lit_prompt.functional.row_loop import State, until_done

#: Takes points and the problems that they belong to; gives values and gradients.
Objective = Callable[
    [Float64[Tensor, "row dim"], Int64[Tensor, " row"]], tuple[Float64[Tensor, " row"], Float64[Tensor, "row dim"]]
]

_SUFFICIENT = 1e-4
_MOST_CUTS = 40
# float32 is left a little below the tolerance, so that the first float64 step is mostly the last
_FLOAT32_SHARE = 0.9
_ROUNDINGS = 50.0


@dataclass(frozen=True)
class Descent:
    """Where the problems ended.

    Attributes:
        point: the last ones.
        value: objective there.
        gap: the measure that was to become small.
        steps: steps made.
    """

    point: Float64[Tensor, "item dim"]
    value: Float64[Tensor, " item"]
    gap: Float64[Tensor, " item"]
    steps: Int64[Tensor, " item"]


class Rows(NamedTuple):
    """The problems that are under way.

    Attributes:
        problem: which ones.
        point: where they are.
        value: objective there.
        gradient: and its gradient.
    """

    problem: Int64[Tensor, " row"]
    point: Float64[Tensor, "row dim"]
    value: Float64[Tensor, " row"]
    gradient: Float64[Tensor, "row dim"]


def start_rows(objective: Objective, point: Float64[Tensor, "item dim"]) -> Rows:
    """All problems at their starts."""
    every = torch.arange(len(point), device=point.device)
    return Rows(every, point, *objective(point, every))


def descend(
    rows: Rows,
    memory: State,
    step: Callable[..., tuple[Rows, State]],
    gap: Callable[[Tensor, Tensor], Tensor],
    tolerance: float,
    max_steps: int,
) -> Descent:
    """Repeats a method's step for every problem until its own end.

    Args:
        rows: all problems at their starts.
        memory: what the method remembers, tensors ``[row, ...]``.
        step: takes the number of the step, from 1, rows and memory, and gives both after the step.
        gap: takes points and gradients; gives what is to become small ``[row]``.
        tolerance: a problem ends when its gap is at most this, and when a step leaves it where it is.
        max_steps: it ends after this many steps whatever its gap.

    Returns:
        The last points.
    """

    def look(row: Tensor, stuck: Tensor, *state: Tensor) -> tuple[Tensor, State, State]:
        point, value, gradient, *_ = state
        measure = gap(point, gradient)
        return (measure <= tolerance) | stuck, (point, value, measure), state

    def move(number: int, *state: Tensor) -> State:
        before = Rows(*state[:4])
        after, memory = step(number, before, *state[4:])
        return (after.point == before.point).all(1), *after[1:], *memory

    stuck = torch.zeros_like(rows.problem, dtype=torch.bool)
    (point, value, measure), steps = until_done(look, move, (stuck, *rows[1:], *memory), max_steps)
    return Descent(point, value, measure, steps)


def backtrack(
    objective: Objective,
    rows: Rows,
    trial: Callable[[Tensor, Tensor], Tensor],
    length: Float64[Tensor, " row"],
    ceiling: Float64[Tensor, " row"],
    cut: float,
    rounding: float,
) -> Rows:
    """Shortens steps until each has lowered its value enough (Armijo's rule).

    Args:
        objective: of the problems.
        rows: before the step.
        trial: takes row numbers and step lengths, gives the points that those lead to.
        length: first step lengths.
        ceiling: values from which to descend.
        cut: what a step that is too long is multiplied by.
        rounding: relative error of the values.

    Returns:
        The rows after the step; those for which no length will do are left where they are.
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
            break
        length[high] *= cut
        point[high] = trial(high, length[high])
        value[high], gradient[high] = objective(point[high], rows.problem[high])
    else:
        point[high], value[high], gradient[high] = rows.point[high], rows.value[high], rows.gradient[high]
    return Rows(rows.problem, point, value, gradient)


def in_two_precisions(
    solve: Callable[[torch.dtype, Tensor, float, float], Descent], start: Tensor, tolerance: float, float32_gap: float
) -> Descent:
    """Comes near a solution with float32 products and ends with float64 ones, often by a single look.

    Args:
        solve: takes the dtype of the products, a start, a tolerance, and the relative error of the values.
        start: ``[item, dim]``, float64.
        tolerance: largest gap in the end.
        float32_gap: float32 products cannot tell smaller gaps from none.

    Returns:
        The last points, with gaps and values from float64 products.
    """
    enough = max(_FLOAT32_SHARE * tolerance, float32_gap)
    near = solve(torch.float32, start, enough, _ROUNDINGS * torch.finfo(torch.float32).eps)
    found = solve(torch.float64, near.point, tolerance, _ROUNDINGS * torch.finfo(torch.float64).eps)
    return Descent(found.point, found.value, found.gap, near.steps + found.steps)
