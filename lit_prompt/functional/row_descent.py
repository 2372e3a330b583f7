"""Descent over many independent problems at once: what its methods have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lit_prompt.functional.row_loop import State, go_on_always, until_done

_SUFFICIENT = 1e-4
_MOST_CUTS = 40
_CUTS = (0.1, 0.5)
# steps that a method remembers
_PAIRS = 8
# float32 ends a little below the tolerance, so that the first float64 evaluation is mostly the last
_FLOAT32_SHARE = 0.9
# relative error of values, in units of the products' rounding
_ROUNDINGS = 50.0


class Rows(NamedTuple):
    """Problems in progress: which ones, where they are, and the objective and its gradient there."""

    problem: Int64[Tensor, " row"]
    point: Float64[Tensor, "row dim"]
    value: Float64[Tensor, " row"]
    gradient: Float64[Tensor, "row dim"]


@dataclass(frozen=True)
class Problems:
    """Independent minimisations; each ends at its tolerance, after ``max_steps``, or when a step does not move it.

    ``objective`` takes points ``[row, dim]``, the problems they belong to ``[row]``, and the dtype of its products
    (float64 or float32); it gives values ``[row]`` and gradients ``[row, dim]``, all float64.
    """

    objective: Callable[[Tensor, Tensor, torch.dtype], tuple[Tensor, Tensor]]
    gap: Callable[[Tensor, Tensor, Tensor], Tensor]  #: of points, values and gradients, ``[row]``
    tolerance: float  #: largest gap at which a problem ends
    max_steps: int
    products: torch.dtype = torch.float64
    go_on: Callable[[int], bool] = go_on_always  #: as of :func:`until_done`

    def rows(self, problem: Tensor, point: Tensor) -> Rows:
        """Problems at points."""
        return Rows(problem, point, *self.objective(point, problem, self.products))


@dataclass(frozen=True)
class Descent:
    """Where the problems ended: point, objective, gap, and the number of steps made."""

    point: Float64[Tensor, "item dim"]
    value: Float64[Tensor, " item"]
    gap: Float64[Tensor, " item"]
    steps: Int64[Tensor, " item"]


def descend(
    problems: Problems,
    start: Float64[Tensor, "item dim"],
    memory: Callable[[Rows], State],
    step: Callable[..., tuple[Rows, State]],
) -> Descent:
    """Repeats a method's step for every problem until its own end.

    ``memory`` gives what the method remembers of the start, tensors ``[row, ...]``; ``step`` takes the number of the
    step, from 1, the rows and that memory, and gives both after the step.
    """

    def look(row: Tensor, stuck: Tensor, *state: Tensor) -> tuple[Tensor, State, State]:
        point, value, gradient, *_ = state
        gap = problems.gap(point, value, gradient)
        return (gap <= problems.tolerance) | stuck, (point, value, gap), state

    def move(number: int, *state: Tensor) -> State:
        before = Rows(*state[:4])
        after, memory = step(number, before, *state[4:])
        return (after.point == before.point).all(1), *after[1:], *memory

    every = torch.arange(len(start), device=start.device)
    rows = problems.rows(every, start)
    stuck = torch.zeros_like(every, dtype=torch.bool)
    start_state = (stuck, *rows[1:], *memory(rows))
    (point, value, gap), steps = until_done(look, move, start_state, problems.max_steps, problems.go_on)
    return Descent(point, value, gap, steps)


def no_pairs(start: Float64[Tensor, "item dim"]) -> State:
    """Curvature pairs of problems that have made no step: two tensors ``[item, pair, dim]``, without curvature."""
    nothing = start.new_zeros(len(start), _PAIRS, start.shape[1])
    return nothing, nothing


def newest_pairs(moved: Tensor, turned: Tensor, before: Rows, after: Rows) -> State:
    """Curvature pairs ``[row, pair, dim]``, points' and gradients' changes, after a step; the oldest one goes."""
    return (
        torch.cat([moved[:, 1:], (after.point - before.point).unsqueeze(1)], 1),
        torch.cat([turned[:, 1:], (after.gradient - before.gradient).unsqueeze(1)], 1),
    )


def backtrack(problems: Problems, rows: Rows, direction: Float64[Tensor, "row dim"]) -> Rows:
    """Steps along descent directions, shortened until each lowers its value enough (Armijo's rule).

    A step that is too long becomes as long as the parabola through what is known says, within bounds. Returns the rows
    after the step; those for which no length will do are left where they are.
    """
    length = torch.ones_like(rows.value)
    point = rows.point + direction
    _, _, value, gradient = problems.rows(rows.problem, point)
    allowance = _ROUNDINGS * torch.finfo(problems.products).eps * rows.value.abs().clamp_min(1.0)
    slope = (rows.gradient * direction).sum(1).clamp_max(0.0)
    for _ in range(_MOST_CUTS):
        promised, change = length * slope, value - rows.value
        high = (~(change <= _SUFFICIENT * promised + allowance)).nonzero().flatten()
        if len(high) == 0:
            break
        cut = (-promised / (2.0 * (change - promised)))[high].nan_to_num(nan=0.0).clamp(*_CUTS)
        length[high] *= cut
        point[high] = rows.point[high] + length[high].unsqueeze(1) * direction[high]
        _, _, value[high], gradient[high] = problems.rows(rows.problem[high], point[high])
    else:
        point[high], value[high], gradient[high] = rows.point[high], rows.value[high], rows.gradient[high]
    return Rows(rows.problem, point, value, gradient)


def in_two_precisions(
    method: Callable[[Problems, Tensor], Descent],
    problems: Problems,
    start: Float64[Tensor, "item dim"],
    float32_gap: float,
) -> Descent:
    """Solves problems with float32 products first, and then with float64 ones, which often take a single evaluation.

    Each dtype has ``max_steps`` of its own. Float32 products cannot tell a gap below ``float32_gap`` from zero.
    """
    enough = max(_FLOAT32_SHARE * problems.tolerance, float32_gap)
    near = method(replace(problems, tolerance=enough, products=torch.float32), start)
    found = method(problems, near.point)
    return replace(found, steps=near.steps + found.steps)
