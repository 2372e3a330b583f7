"""The lift: a soft prompt whose last embedding is the solution of the sphere problem, scaled up."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.models.floors import Floors

#: Scales that are tried, each a quarter of the one before.
SCALES = 9
_LARGEST_SCALE = 1e5
# of scales about as good the smallest is taken: gradient steps move it the most
_AS_GOOD = 1e-5


def scale_grid(state_norm: float, max_norm: float | None) -> list[float]:
    """Decreasing factors to try for a state of a norm, none of which gives an embedding longer than ``max_norm``."""
    largest = _LARGEST_SCALE if max_norm is None else min(_LARGEST_SCALE, max_norm / state_norm)
    return [largest / 4**k for k in range(SCALES)]


def lift(
    floors: Floors,
    batch: TargetBatch,
    prompts: Tensor,
    score: Callable[[Tensor], Tensor],
    max_norm: float | None = None,
) -> Tensor:
    """Replaces the last embedding of each target's prompt, ``[target, length, embedding]``, by the lifted one.

    The blocks of a pre-norm transformer add bounded terms to the residual stream, so that the final norm of a long
    enough last embedding t u sees the direction u alone. How long it has to be, the LM itself says: of a grid of
    scales, up to the norm ``max_norm``, the one with the lowest ``score`` (KL in nats, ``[target]``) is taken. A prompt
    is left unchanged where no scale gives a finite KL.
    """
    states = floors.sphere_points(batch)[0].to(prompts)
    grid = scale_grid(math.sqrt(states.shape[1]), max_norm)
    tried = [torch.cat([prompts[:, :-1], scale * states.unsqueeze(1)], 1) for scale in grid]
    kl = torch.stack([score(candidate) for candidate in tried])
    kl = kl.masked_fill(kl.isnan(), torch.inf)
    good_enough = kl <= kl.amin(0) + _AS_GOOD
    smallest = len(grid) - 1 - good_enough.flip(0).int().argmax(0)
    chosen = torch.stack(tried)[smallest, torch.arange(len(prompts), device=prompts.device)]
    return torch.where(kl.amin(0).isfinite().view(-1, 1, 1), chosen, prompts)


def why_no_lift(floors: Floors, embedding_dim: int) -> str | None:
    """Why an LM's prompts cannot start at the lift; None where they can."""
    if floors.head is not None and floors.head.dim != embedding_dim:
        return (
            f"this LM has no lift: its embeddings have {embedding_dim} dimensions, the states before its final norm "
            f"{floors.head.dim}; searches work all the same"
        )
    return floors.why_not
