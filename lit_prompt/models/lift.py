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
# among scales that do about as well the smallest is taken: gradient steps move it the most
_AS_GOOD = 1e-5


def scale_grid(state_norm: float, max_norm: float | None) -> list[float]:
    """Factors of a normalised state to try, falling.

    Args:
        state_norm: norm of a normalised state.
        max_norm: longest allowed embedding; None for no limit.
    """
    largest = _LARGEST_SCALE if max_norm is None else min(_LARGEST_SCALE, max_norm / state_norm)
    return [largest / 4**k for k in range(SCALES)]


def lift(
    floors: Floors,
    batch: TargetBatch,
    prompts: Tensor,
    score: Callable[[Tensor], Tensor],
    max_norm: float | None = None,
) -> Tensor:
    """Puts the lifted embedding at the end of some prompts.

    The blocks of a pre-norm transformer add bounded terms to the residual stream, so that the final norm of a long
    enough last embedding t u sees the direction u alone. How long it has to be, the LM itself says: of a grid of
    scales the one with the lowest KL is taken.

    Args:
        floors: gives the states that are to be reached.
        batch: the targets.
        prompts: a prompt for each target, ``[target, length, embedding]``; of the last embedding only its place counts.
        score: KL of such prompts in nats, ``[target]``, from the LM.
        max_norm: longest allowed embedding.

    Returns:
        The prompts with the last embedding of lowest KL; unchanged where no scale gives a finite one.
    """
    states = floors.sphere_points(batch)[0].to(prompts)
    grid = scale_grid(math.sqrt(states.shape[1]), max_norm)
    tried = [torch.cat([prompts[:, :-1], scale * states.unsqueeze(1)], 1) for scale in grid]
    kl = torch.stack([score(candidate) for candidate in tried]).nan_to_num(nan=torch.inf)
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
