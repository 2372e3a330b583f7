"""The sphere problem: the least KL over the states that a soft prompt can give a pre-norm transformer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lit_prompt.functional.curvature import Curvature
from lit_prompt.functional.floor import Floor
from lit_prompt.functional.lbfgs import lbfgs
from lit_prompt.functional.low_rank import LowRankMatrix
from lit_prompt.functional.output_head import OutputHead, TargetTerms
from lit_prompt.functional.row_descent import Descent, Problems, Rows, in_two_precisions
from lit_prompt.functional.row_loop import go_on_always
from lit_prompt.functional.rows import matrix_times

# a point of the ball this close to its boundary counts as lying on it
_ON_BOUNDARY = 1e-6
# a random start is followed this far, and further only where it has come to a lower KL by then
_COARSE = 30.0
# of a search, with products of each dtype
_MOST_STEPS = 500


@dataclass(frozen=True)
class SpherePoint:
    """Solutions of the sphere problem."""

    kl: Float64[Tensor, " item"]  #: nats; reached, but not certified to be the least
    point: Float64[Tensor, "item dim"]  #: normalised states of norm sqrt(dim)
    steps: Int64[Tensor, " item"]  #: over all starts


def kl_on_sphere(
    head: OutputHead,
    terms: TargetTerms,
    floor: Floor,
    tolerance: float = 1e-3,
    go_on: Callable[[int], bool] = go_on_always,
) -> SpherePoint:
    """Least KL(p || q), in nats, over the sphere on which the final norm puts every state that is not tiny.

    The search starts at the ball's solution (``floor``), projected onto the sphere. Where that solution lies on the
    ball's boundary, it solves both problems; elsewhere the problem is not convex and is searched from a random start,
    too, unless the KL is at most the tolerance already. A search ends when the KL, or the gradient along the sphere
    times the radius, is at most ``tolerance`` nats, or where ``go_on``, told how many targets are left, says no.
    """
    generator = torch.Generator().manual_seed(0)
    # every target gets the same random directions: its result must not depend on the other targets
    instead, other = torch.randn(2, head.dim, generator=generator, dtype=torch.float64).to(floor.point)
    norm = floor.point.norm(dim=1, keepdim=True)
    found = _descend(head, terms, torch.where(norm > 1e-9, floor.point, instead), tolerance, go_on)
    kl, point, steps = found.value.clone(), found.point.clone(), found.steps.clone()
    within = ((norm.squeeze(1) < head.radius * (1.0 - _ON_BOUNDARY)) & (kl > tolerance)).nonzero().flatten()
    if len(within):
        coarse = _descend(head, terms.rows(within), other.repeat(len(within), 1), _COARSE * tolerance, go_on)
        steps[within] += coarse.steps
        lower = coarse.value < kl[within]
        rows = within[lower]
        if len(rows):
            fine = _descend(head, terms.rows(rows), coarse.point[lower], tolerance, go_on)
            kl[rows], point[rows] = fine.value, fine.point
            steps[rows] += fine.steps
    return SpherePoint(kl, point, steps)


def _descend(
    head: OutputHead, terms: TargetTerms, start: Tensor, tolerance: float, go_on: Callable[[int], bool]
) -> Descent:
    """Descends along the sphere from a start ``[item, dim]`` for each target: L-BFGS over the directions of vectors."""
    radius = head.sphere_radius
    curvature = Curvature(head, terms)

    def on_sphere(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = radius / x.norm(dim=1, keepdim=True).clamp_min(1e-30)
        return x * scale, scale

    def along(u: Tensor, x: Tensor) -> Tensor:
        """The part of vectors ``[row, dim, k]`` that lies along the sphere at some of its points ``[row, dim]``."""
        return x - u.unsqueeze(2) * matrix_times(x.mT, u).unsqueeze(1) / radius**2

    def gap(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        return torch.minimum(x.norm(dim=1) * gradient.norm(dim=1), value.clamp_min(0.0))

    def objective(x: Tensor, rows: Tensor, products: torch.dtype) -> tuple[Tensor, Tensor]:
        u, scale = on_sphere(x)
        kl, gradient = head.kl_and_gradient(curvature.from_basis(u), terms.rows(rows), products)
        return kl, scale * along(u, curvature.to_basis(gradient).unsqueeze(2)).squeeze(2)

    def model(rows: Rows) -> LowRankMatrix:
        u, scale = on_sphere(rows.point)
        found = curvature.at(rows.problem, u, rows.value, rows.gradient / scale)
        return found._replace(factor=along(u, found.factor))

    def method(problems: Problems, start: Tensor) -> Descent:
        return lbfgs(problems, on_sphere(start)[0], model)

    problems = Problems(objective, gap, tolerance, _MOST_STEPS, go_on=go_on)
    found = in_two_precisions(method, problems, curvature.to_basis(start), head.float32_gap)
    return replace(found, point=curvature.from_basis(on_sphere(found.point)[0]))
