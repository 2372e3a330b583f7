"""The certified floor: a KL that no prompt can go below, whatever its kind and length."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lit_prompt.functional.ball_descent import ball_descent
from lit_prompt.functional.curvature import Curvature
from lit_prompt.functional.low_rank import LowRankMatrix
from lit_prompt.functional.output_head import OutputHead, TargetTerms
from lit_prompt.functional.row_descent import Problems, Rows, in_two_precisions
from lit_prompt.functional.row_loop import go_on_always


@dataclass(frozen=True)
class Floor:
    """Solutions of the ball problem; KLs in nats."""

    lower: Float64[Tensor, " item"]  #: certified lower bound of the KL of any prompt
    upper: Float64[Tensor, " item"]  #: KL at ``point``; the ball's least KL lies between ``lower`` and this
    point: Float64[Tensor, "item dim"]  #: normalised states
    steps: Int64[Tensor, " item"]


def kl_floor(
    head: OutputHead,
    terms: TargetTerms,
    tolerance: float = 1e-3,
    max_steps: int = 1000,
    go_on: Callable[[int], bool] = go_on_always,
) -> Floor:
    r"""Least KL(p || q) over the ball that holds every normalised last hidden state.

    The problem is convex, and for a state u of the ball with gradient r the Frank-Wolfe gap
    :math:`\langle r, u\rangle + R\|r\|` bounds how far KL(u) lies above the least one, so that KL(u) less the gap is
    a lower bound of the KL that any prompt can have, soft or hard. As no KL is below zero, KL(u) itself is such a gap,
    too, and the smaller one counts. It is lowered by what the rounding of the LM's
    arithmetic can do (:attr:`OutputHead.slack`), and not below zero. It holds for prompts whose features are
    contained (:meth:`OutputHead.contains`): all but those that make the final norm's arithmetic fail.

    The solver stops at a gap of ``tolerance`` nats, or after ``max_steps`` steps with float32 products and as many with
    float64 ones: the gap is wider then, but the floor still holds. So it is where ``go_on``, which is told before each
    step how many targets are left, says no.
    """
    radius = head.radius
    curvature = Curvature(head, terms)

    def gap(u: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        return torch.minimum((gradient * u).sum(1) + radius * gradient.norm(dim=1), value.clamp_min(0.0))

    def objective(x: Tensor, rows: Tensor, products: torch.dtype) -> tuple[Tensor, Tensor]:
        kl, gradient = head.kl_and_gradient(curvature.from_basis(x), terms.rows(rows), products)
        return kl, curvature.to_basis(gradient)

    def model(rows: Rows) -> LowRankMatrix:
        return curvature.at(rows.problem, rows.point, rows.value, rows.gradient)

    start = curvature.to_basis(torch.zeros_like(terms.moments))
    method = partial(ball_descent, radius=radius, curvature=model)
    problems = Problems(objective, gap, tolerance, max_steps, go_on=go_on)
    found = in_two_precisions(method, problems, start, head.float32_gap)
    lower = (found.value - found.gap - head.slack).clamp_min(0.0)
    return Floor(lower, found.value, curvature.from_basis(found.point), found.steps)
