"""L-BFGS over many independent problems at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.row_descent import Descent, Objective, Rows, backtrack, descend, start_rows
from lit_prompt.functional.row_loop import State

_MEMORY = 8
_CUT = 0.3


def lbfgs(
    objective: Objective,
    gap: Callable[[Tensor, Tensor], Tensor],
    start: Float64[Tensor, "item dim"],
    tolerance: float,
    max_steps: int,
    rounding: float,
) -> Descent:
    """Minimises an unconstrained objective from one start for each of many problems.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 1989) with a backtracking line search. Each problem has its own
    curvature pairs, step lengths and end; torch.optim.LBFGS would take all problems for one.

    Args:
        objective: of the problems.
        gap: takes points and gradients; gives what is to become small ``[row]``.
        start: of each problem.
        tolerance: a problem ends when its gap is at most this.
        max_steps: it ends after this many steps whatever its gap.
        rounding: relative error of the objective's values.

    Returns:
        The last points.
    """

    def step(_: int, rows: Rows, moved: Tensor, turned: Tensor) -> tuple[Rows, State]:
        direction = -_apply_inverse_hessian(rows.gradient, moved, turned)
        uphill = ~((direction * rows.gradient).sum(1, keepdim=True) < 0.0)
        direction = torch.where(uphill, -rows.gradient, direction)

        def trial(which: Tensor, length: Tensor) -> Tensor:
            return rows.point[which] + length.unsqueeze(1) * direction[which]

        ones = torch.ones_like(rows.value)
        after = backtrack(objective, rows, trial, ones, rows.value, _CUT, rounding)
        moved = torch.cat([moved[:, 1:], (after.point - rows.point).unsqueeze(1)], 1)
        turned = torch.cat([turned[:, 1:], (after.gradient - rows.gradient).unsqueeze(1)], 1)
        return after, (moved, turned)

    nothing = start.new_zeros(len(start), _MEMORY, start.shape[1])  # pairs without curvature count for nothing
    return descend(start_rows(objective, start), (nothing, nothing), step, gap, tolerance, max_steps)


def _apply_inverse_hessian(gradient: Tensor, moved: Tensor, turned: Tensor) -> Tensor:
    """The two-loop recursion over pairs ``[row, pair, dim]``; those without curvature are passed over, row by row."""
    curvature = (moved * turned).sum(2, keepdim=True)
    inverse = torch.where(curvature > 1e-16, 1.0 / curvature, 0.0)
    found, shares = gradient, []
    for pair in reversed(range(moved.shape[1])):
        share = inverse[:, pair] * (moved[:, pair] * found).sum(1, keepdim=True)
        found = found - share * turned[:, pair]
        shares.append(share)
    last, size = curvature[:, -1], (turned[:, -1] ** 2).sum(1, keepdim=True)
    scale = torch.where(last > 1e-16, last / size, 1.0 / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30))
    found = found * scale
    for pair, share in enumerate(reversed(shares)):
        found = found + (share - inverse[:, pair] * (turned[:, pair] * found).sum(1, keepdim=True)) * moved[:, pair]
    return found
