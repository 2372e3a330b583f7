"""The sphere problem: the least KL over the states that a soft prompt can give a pre-norm transformer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.floor import Floor
from lit_prompt.functional.output_head import OutputHead, TargetTerms
from lit_prompt.functional.spectral_descent import spectral_descent

# a point of the ball this close to its boundary counts as lying on it
_ON_BOUNDARY = 1e-6


@dataclass(frozen=True)
class SpherePoint:
    """Solutions of the sphere problem.

    Attributes:
        kl: nats, ``[item]``, float64. Reached, but not certified to be the least.
        point: normalised states of norm sqrt(dim), ``[item, dim]``, float64.
        steps: steps of the solver, ``[item]``, over all starts.
    """

    kl: Tensor
    point: Tensor
    steps: Tensor


def kl_on_sphere(
    head: OutputHead,
    terms: TargetTerms,
    floor: Floor,
    restarts: int = 1,
    tolerance: float = 1e-5,
    max_steps: int = 1000,
    seed: int = 0,
) -> SpherePoint:
    """Least KL(p || q) over the sphere on which the final norm puts every state that is not tiny.

    The search starts at the ball's solution, brought to the sphere. Where that solution lies on the ball's boundary
    the two problems have the same solution; elsewhere the problem is not convex and further starts are random.

    Args:
        head: final norm and output head of the LM.
        terms: the targets.
        floor: their solutions in the ball.
        restarts: random starts for each target whose ball solution lies within the ball.
        tolerance: a search ends when the gradient along the sphere, times the radius, is at most this, nats.
        max_steps: it ends after so many steps in any case.
        seed: of the random starts.

    Returns:
        The best point found for each target.
    """
    radius = head.sphere_radius
    norm = floor.point.norm(dim=1)
    within = (norm < head.radius * (1.0 - _ON_BOUNDARY)).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(restarts, head.dim, generator=generator, dtype=torch.float64).to(floor.point)
    # every target gets the same random directions: its result must not depend on its company
    anywhere = torch.randn(head.dim, generator=generator, dtype=torch.float64).to(floor.point)
    first = torch.where((norm > 1e-9).unsqueeze(1), floor.point, anywhere)
    start = torch.cat([first, *(direction.expand(len(within), -1) for direction in random)])
    problem = torch.cat([torch.arange(len(norm), device=within.device), within.repeat(restarts)])

    def project(u: Tensor) -> Tensor:
        u = head.centre(u)
        return u * (radius / u.norm(dim=1, keepdim=True).clamp_min(1e-30))

    def along_sphere(u: Tensor, gradient: Tensor) -> Tensor:
        radial = (gradient * u).sum(1, keepdim=True) * u / radius**2
        return radius * (gradient - radial).norm(dim=1)

    found = spectral_descent(
        lambda u, rows: head.kl_and_gradient(u, terms.rows(problem[rows])),
        project,
        along_sphere,
        start,
        tolerance,
        max_steps,
    )
    kl, point = found.value[: len(norm)].clone(), found.point[: len(norm)].clone()
    steps = torch.zeros_like(found.steps[: len(norm)]).index_add_(0, problem, found.steps)
    for k in range(restarts):
        rows = slice(len(norm) + k * len(within), len(norm) + (k + 1) * len(within))
        better = found.value[rows] < kl[within]
        kl[within] = torch.where(better, found.value[rows], kl[within])
        point[within] = torch.where(better.unsqueeze(1), found.point[rows], point[within])
    return SpherePoint(kl, point, steps)
