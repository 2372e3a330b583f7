"""Spectral projected gradient descent over many independent problems at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.row_descent import Descent, Problems, Rows, backtrack, descend
from lit_prompt.functional.row_loop import State

# nonmonotone line search: the value may rise, but not above the largest of this many previous steps
_MEMORY = 8
_CUT = 0.25
_STEP_SIZES = (1e-10, 1e10)


def spectral_descent(
    problems: Problems, start: Float64[Tensor, "item dim"], project: Callable[[Tensor], Tensor]
) -> Descent:
    """Minimises objectives over a set, each from its own start; ``project`` maps points to the nearest in the set.

    Projected gradient steps of Barzilai and Borwein's length with the nonmonotone line search of Birgin, Martínez and
    Raydan (SIAM J. Optim. 10(4), 2000). Each problem has its own step lengths and its own end.
    """

    def step(number: int, rows: Rows, history: Tensor, length: Tensor) -> tuple[Rows, State]:
        def trial(which: Tensor, length: Tensor) -> Tensor:
            return project(rows.point[which] - length.unsqueeze(1) * rows.gradient[which])

        after = backtrack(problems, rows, trial, length, history.amax(1), _CUT)
        moved, turned = after.point - rows.point, after.gradient - rows.gradient
        length = _spectral_length(moved, turned, length, long=number % 2 == 1)
        return after, (torch.cat([history[:, 1:], after.value.unsqueeze(1)], 1), length)

    def memory(rows: Rows) -> State:
        return rows.value.unsqueeze(1).repeat(1, _MEMORY), 1.0 / rows.gradient.norm(dim=1).clamp_min(1e-12)

    return descend(problems, project(start), memory, step)


def _spectral_length(moved: Tensor, turned: Tensor, length: Tensor, long: bool) -> Tensor:
    """Barzilai and Borwein's next step length, alternately the long and the short one; doubled without curvature."""
    curvature = (moved * turned).sum(1)
    found = (moved * moved).sum(1) / curvature if long else curvature / (turned * turned).sum(1)
    return torch.where(curvature > 0, found, 2.0 * length).nan_to_num(nan=1.0).clamp(*_STEP_SIZES)
