"""The best prompts that a search has scored for each slot, which its crossovers draw from."""

import torch
from torch import Tensor


def no_elites(ids: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Room for ``count`` prompts of each slot, with its start alone, ``[slot, length]``: ids and scores of them all.

    ``[slot, count, length]`` and ``[slot, count]``; ``inf`` where there is none.
    """
    kept = scores.new_full((len(ids), count), torch.inf)
    kept[:, 0] = scores
    return ids.unsqueeze(1).repeat(1, count, 1), kept


def kept_elites(elites: Tensor, scores: Tensor, pool: Tensor, pool_scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best of some slots' prompts and of a pool, best first; what is older wins a tie.

    Args:
        elites: ``[slot, count, length]``.
        scores: theirs in nats, ``[slot, count]``.
        pool: prompts of which no two are equal, and none is among those, ``[slot, prompt, length]``.
        pool_scores: ``[slot, prompt]``; ``inf`` for those that do not count.
    """
    count = elites.shape[1]
    best = pool_scores.nan_to_num(nan=torch.inf).sort(dim=1, stable=True)
    first = best.indices[:, :count]
    rows = torch.arange(len(elites)).unsqueeze(1)
    every = torch.cat([elites, pool[rows, first]], 1)
    order = torch.cat([scores, best.values[:, :count]], 1).sort(dim=1, stable=True)
    chosen = order.indices[:, :count]
    return every[rows, chosen], order.values[:, :count]
