"""Descent over many independent problems at once: what its methods have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lit_prompt.functional.row_loop import State, until_done

_SUFFICIENT = 1e-4
_MOST_CUTS = 40
# float32 is left a little below the tolerance, so that the first float64 step is mostly the last
_FLOAT32_SHARE = 0.9
_ROUNDINGS = 50.0


@dataclass(frozen=True)
class Problems:
    """Minimisations that are independent of one another, and when each ends.

    Attributes:
        objective: takes points ``[row, dim]`` and which problems they belong to ``[row]``; gives values ``[row]`` and
            gradients ``[row, dim]``, all float64.
        gap: takes points and gradients; gives what is to become small ``[row]``.
        tolerance: a problem ends when its gap is at most this, and when a step leaves it where it is.
        max_steps: it ends after this many steps whatever its gap.
        rounding: relative error of the objective's values.
    """

    objective: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    gap: Callable[[Tensor, Tensor], Tensor]
    tolerance: float
    max_steps: int
    rounding: float


@dataclass(frozen=True)
class Descent:
    """Where the problems ended: point, objective, gap, and the number of steps made."""

    point: Float64[Tensor, "item dim"]
    value: Float64[Tensor, " item"]
    gap: Float64[Tensor, " item"]
    steps: Int64[Tensor, " item"]


class Rows(NamedTuple):
    """The problems that are under way: which ones, where they are, and the objective there."""

    problem: Int64[Tensor, " row"]
    point: Float64[Tensor, "row dim"]
    value: Float64[Tensor, " row"]
    gradient: Float64[Tensor, "row dim"]


def start_rows(problems: Problems, point: Float64[Tensor, "item dim"]) -> Rows:
    """All problems at their starts."""
    every = torch.arange(len(point), device=point.device)
    return Rows(every, point, *problems.objective(point, every))


def descend(problems: Problems, rows: Rows, memory: State, step: Callable[..., tuple[Rows, State]]) -> Descent:
    """Repeats a method's step for every problem until its own end.

    Args:
        problems: to be solved.
        rows: all of them at their starts.
        memory: what the method remembers, tensors ``[row, ...]``.
        step: takes the number of the step, from 1, rows and memory, and gives both after the step.

    Returns:
        The last points.
    """

    def look(row: Tensor, stuck: Tensor, *state: Tensor) -> tuple[Tensor, State, State]:
        point, value, gradient, *_ = state
        gap = problems.gap(point, gradient)
        return (gap <= problems.tolerance) | stuck, (point, value, gap), state

    def move(number: int, *state: Tensor) -> State:
        before = Rows(*state[:4])
        after, memory = step(number, before, *state[4:])
        return (after.point == before.point).all(1), *after[1:], *memory

    stuck = torch.zeros_like(rows.problem, dtype=torch.bool)
    found, steps = until_done(look, move, (stuck, *rows[1:], *memory), problems.max_steps)
    return Descent(*found, steps)


def backtrack(
    problems: Problems,
    rows: Rows,
    trial: Callable[[Tensor, Tensor], Tensor],
    length: Float64[Tensor, " row"],
    ceiling: Float64[Tensor, " row"],
    cut: float,
) -> Rows:
    """Shortens steps until each has lowered its value enough (Armijo's rule).

    Args:
        problems: to be solved.
        rows: before the step.
        trial: takes row numbers and step lengths, gives the points that those lead to.
        length: first step lengths.
        ceiling: values from which to descend.
        cut: what a step that is too long is multiplied by.

    Returns:
        The rows after the step; those for which no length will do are left where they are.
    """
    length = length.clone()
    point = trial(torch.arange(len(length), device=length.device), length)
    value, gradient = problems.objective(point, rows.problem)
    allowance = problems.rounding * ceiling.abs().clamp_min(1.0)
    for _ in range(_MOST_CUTS):
        slope = (rows.gradient * (point - rows.point)).sum(1).clamp_max(0.0)
        high = (~(value <= ceiling + _SUFFICIENT * slope + allowance)).nonzero().flatten()
        if len(high) == 0:
            break
        length[high] *= cut
        point[high] = trial(high, length[high])
        value[high], gradient[high] = problems.objective(point[high], rows.problem[high])
    else:
        point[high], value[high], gradient[high] = rows.point[high], rows.value[high], rows.gradient[high]
    return Rows(rows.problem, point, value, gradient)


def in_two_precisions(
    method: Callable[[Problems, Tensor], Descent],
    objective: Callable[[Tensor, Tensor, torch.dtype], tuple[Tensor, Tensor]],
    gap: Callable[[Tensor, Tensor], Tensor],
    start: Float64[Tensor, "item dim"],
    tolerance: float,
    max_steps: int,
    float32_gap: float,
) -> Descent:
    """Comes near a solution with float32 products and ends with float64 ones, often by a single look.

    Args:
        method: solves problems from their starts.
        objective: as of :class:`Problems`, with the dtype of the products.
        gap: as of :class:`Problems`.
        start: of each problem.
        tolerance: largest gap in the end.
        max_steps: with products of each dtype.
        float32_gap: float32 products cannot tell smaller gaps from none.

    Returns:
        The last points, with gaps and values from float64 products.
    """

    def solve(products: torch.dtype, start: Tensor, tolerance: float) -> Descent:
        rounding = _ROUNDINGS * torch.finfo(products).eps
        return method(Problems(partial(objective, products=products), gap, tolerance, max_steps, rounding), start)

    near = solve(torch.float32, start, max(_FLOAT32_SHARE * tolerance, float32_gap))
    found = solve(torch.float64, near.point, tolerance)
    return replace(found, steps=near.steps + found.steps)
