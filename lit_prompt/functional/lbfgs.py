"""L-BFGS over many independent problems at once."""

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.row_descent import Descent, Problems, Rows, backtrack, descend
from lit_prompt.functional.row_loop import State

_MEMORY = 8
_CUT = 0.3


def lbfgs(problems: Problems, start: Float64[Tensor, "item dim"]) -> Descent:
    """Minimises unconstrained objectives, each from its own start.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 1989) with a backtracking line search. Each problem has its own
    curvature pairs, step lengths and end; torch.optim.LBFGS would take all problems for one.
    """

    def step(_: int, rows: Rows, moved: Tensor, turned: Tensor) -> tuple[Rows, State]:
        direction = -_apply_inverse_hessian(rows.gradient, moved, turned)
        uphill = ~((direction * rows.gradient).sum(1, keepdim=True) < 0.0)
        direction = torch.where(uphill, -rows.gradient, direction)

        def trial(which: Tensor, length: Tensor) -> Tensor:
            return rows.point[which] + length.unsqueeze(1) * direction[which]

        ones = torch.ones_like(rows.value)
        after = backtrack(problems, rows, trial, ones, rows.value, _CUT)
        moved = torch.cat([moved[:, 1:], (after.point - rows.point).unsqueeze(1)], 1)
        turned = torch.cat([turned[:, 1:], (after.gradient - rows.gradient).unsqueeze(1)], 1)
        return after, (moved, turned)

    nothing = start.new_zeros(len(start), _MEMORY, start.shape[1])  # pairs without curvature count for nothing
    return descend(problems, start, lambda _: (nothing, nothing), step)


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
