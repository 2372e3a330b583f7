"""L-BFGS over many independent problems at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.low_rank import LowRankMatrix
from lit_prompt.functional.row_descent import Descent, Problems, Rows, backtrack, descend, newest_pairs, no_pairs
from lit_prompt.functional.row_loop import State


def lbfgs(
    problems: Problems, start: Float64[Tensor, "item dim"], curvature: Callable[[Rows], LowRankMatrix]
) -> Descent:
    """Minimises unconstrained objectives, each from its own start.

    L-BFGS (Liu and Nocedal, Math. Program. 45, 1989) with a backtracking line search, from a model of the curvature
    that need be right but for its scale. Each problem has its own curvature pairs, step lengths and end;
    torch.optim.LBFGS would take all problems for one.
    """

    def step(_: int, rows: Rows, moved: Tensor, turned: Tensor) -> tuple[Rows, State]:
        direction = -_apply_inverse_hessian(rows.gradient, moved, turned, curvature(rows))
        uphill = ~((direction * rows.gradient).sum(1, keepdim=True) < 0.0)
        direction = torch.where(uphill, -rows.gradient, direction)
        after = backtrack(problems, rows, direction)
        return after, newest_pairs(moved, turned, rows, after)

    return descend(problems, start, lambda _: no_pairs(start), step)


def _apply_inverse_hessian(gradient: Tensor, moved: Tensor, turned: Tensor, model: LowRankMatrix) -> Tensor:
    """The two-loop recursion over pairs ``[row, pair, dim]``; those without curvature are passed over, row by row."""
    by_model = model.inverse(torch.zeros_like(gradient[:, 0]))
    curvature = (moved * turned).sum(2, keepdim=True)
    inverse = torch.where(curvature > 1e-16, 1.0 / curvature, 0.0)
    found, shares = gradient, []
    for pair in reversed(range(moved.shape[1])):
        share = inverse[:, pair] * (moved[:, pair] * found).sum(1, keepdim=True)
        found = found - share * turned[:, pair]
        shares.append(share)
    last, size = curvature[:, -1], (turned[:, -1] * by_model(turned[:, -1])).sum(1, keepdim=True)
    found = by_model(found) * torch.where((last > 1e-16) & (size > 0.0), last / size, 1.0)
    for pair, share in enumerate(reversed(shares)):
        found = found + (share - inverse[:, pair] * (turned[:, pair] * found).sum(1, keepdim=True)) * moved[:, pair]
    return found
