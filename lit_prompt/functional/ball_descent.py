"""Quasi-Newton descent over a ball, for many independent problems at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.low_rank import LowRankMatrix
from lit_prompt.functional.row_descent import Descent, Problems, Rows, backtrack, descend, newest_pairs, no_pairs
from lit_prompt.functional.row_loop import State, until_done

# a pair tells of curvature where the gradient has turned by more than its rounding
_TURNED = 1e-8
# the multiplier is found when the model's minimum is this close to the ball's boundary
_ON_BOUNDARY = 1e-9
_MOST_NEWTON_STEPS = 30


def ball_descent(
    problems: Problems,
    start: Float64[Tensor, "item dim"],
    radius: float,
    curvature: Callable[[Rows], LowRankMatrix],
) -> Descent:
    """Minimises convex objectives over the ball of a radius, each from its own start.

    A step goes towards the least value that a quadratic model has over the ball (projected quasi-Newton: Schmidt, van
    den Berg, Friedlander and Murphy, AISTATS 2009). The model's Hessian is ``curvature``, corrected by what the last
    steps have shown (BFGS in compact form: Byrd, Nocedal and Schnabel, Math. Program. 63, 1994). Each problem has its
    own model and its own end.
    """

    def step(_: int, rows: Rows, moved: Tensor, turned: Tensor, multiplier: Tensor) -> tuple[Rows, State]:
        model = _corrected(curvature(rows), moved, turned)
        wanted = model.times(rows.point.unsqueeze(2)).squeeze(2) - rows.gradient
        least, multiplier = _least_in_ball(model, wanted, radius, multiplier)
        direction = least - rows.point
        uphill = ~((direction * rows.gradient).sum(1, keepdim=True) < 0.0)
        direction = torch.where(uphill, 0.0, direction)
        after = backtrack(problems, rows, direction)
        return after, (*newest_pairs(moved, turned, rows, after), multiplier)

    return descend(problems, start, lambda rows: (*no_pairs(start), torch.zeros_like(rows.value)), step)


def _corrected(model: LowRankMatrix, moved: Tensor, turned: Tensor) -> LowRankMatrix:
    """A model after the BFGS updates of some pairs ``[row, pair, dim]``; those without curvature count for nothing."""
    curvature = (moved * turned).sum(2)
    known = curvature > _TURNED * moved.norm(dim=2) * turned.norm(dim=2)
    moved, turned = (x * known.unsqueeze(2) for x in (moved, turned))
    before = model.times(moved.mT).mT
    inner = moved @ turned.mT
    below, idle = inner.tril(-1), torch.diag_embed((~known).to(inner))
    upper = torch.cat([moved @ before.mT + idle, below], 2)
    lower = torch.cat([below.mT, -torch.diag_embed(inner.diagonal(dim1=1, dim2=2)) - idle], 2)
    core, factor = torch.cat([upper, lower], 1), torch.cat([before, turned], 1).mT
    scale = core.diagonal(dim1=1, dim2=2).abs().clamp_min(1e-300).rsqrt()
    core, factor = core * scale.unsqueeze(1) * scale.unsqueeze(2), factor * scale.unsqueeze(1)
    rank, added = model.core.shape[1], core.shape[1]
    both = core.new_zeros(len(core), rank + added, rank + added)
    both[:, :rank, :rank], both[:, rank:, rank:] = model.core, core
    return LowRankMatrix(model.diagonal, torch.cat([model.factor, factor], 2), both)


def _least_in_ball(model: LowRankMatrix, wanted: Tensor, radius: float, multiplier: Tensor) -> tuple[Tensor, Tensor]:
    """Where x^T model x / 2 - <wanted, x> is least over the ball, ``[row, dim]``, and the boundary's multiplier.

    Newton's method on the secular equation 1 / |x(multiplier)| = 1 / radius, from a multiplier that is near (Moré and
    Sorensen, SIAM J. Sci. Stat. Comput. 4, 1983).
    """

    def look(_: Tensor, multiplier: Tensor, wanted: Tensor, *model: Tensor) -> tuple[Tensor, State, State]:
        inverse = LowRankMatrix(*model).inverse(multiplier)
        x = inverse(wanted)
        norm = x.norm(dim=1)
        slope = (x * inverse(x)).sum(1)
        beyond = norm - radius
        following = (multiplier + norm**2 / slope * beyond / radius).nan_to_num(nan=0.0).clamp_min(0.0)
        done = (beyond.abs() <= _ON_BOUNDARY * radius) | ((multiplier == 0.0) & (beyond <= 0.0))
        return done, (x, multiplier), (following, wanted, *model)

    def move(_: int, row: Tensor, *following: Tensor) -> State:
        return following

    (x, multiplier), _ = until_done(look, move, (multiplier, wanted, *model), _MOST_NEWTON_STEPS)
    return x * (radius / x.norm(dim=1, keepdim=True).clamp_min(radius)), multiplier
