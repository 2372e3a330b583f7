"""The best prompts that a search has scored for each slot, which crossovers and mixtures choose from."""

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
    """The best of some slots' prompts and of a pool, no two of them equal, best first; what is older wins a tie.

    Args:
        elites: ``[slot, count, length]``.
        scores: theirs in nats, ``[slot, count]``.
        pool: ``[slot, prompt, length]``.
        pool_scores: ``[slot, prompt]``; ``inf`` or NaN for those that do not count.
    """
    count, rows = elites.shape[1], torch.arange(len(elites)).unsqueeze(1)
    best = pool_scores.to(scores).masked_fill(pool_scores.isnan(), torch.inf).sort(dim=1, stable=True)
    first = best.indices[:, : 2 * count]  # more than there are places, as some may be known
    every = torch.cat([elites, pool[rows, first]], 1)
    of_every = torch.cat([scores, best.values[:, : 2 * count]], 1)
    same = (every.unsqueeze(2) == every.unsqueeze(1)).all(3) & of_every.isfinite().unsqueeze(1)
    of_every = of_every.masked_fill(same.tril(-1).any(2), torch.inf)
    order = of_every.sort(dim=1, stable=True)
    chosen = order.indices[:, :count]
    return every[rows, chosen], order.values[:, :count]
