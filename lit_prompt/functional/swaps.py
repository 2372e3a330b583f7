"""Replacements of tokens in prompts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def best_swaps(
    change: Float[Tensor, "prompt length token"], current: Int64[Tensor, "prompt length"], k: int
) -> Int64[Tensor, "prompt length best"]:
    """The k replacements at each position with the least first-order ``change`` of the loss, best first.

    The token that stands there now, ``current`` (-1: none of these), is left out unless it is the only one.
    """
    others = torch.arange(change.shape[-1], device=change.device) != current.unsqueeze(-1)
    k = min(k, max(change.shape[-1] - 1, 1))
    return change.masked_fill(~others, torch.inf).topk(k, largest=False).indices


def sample_swaps(
    ids: Int64[Tensor, "prompt length"],
    choices: Int64[Tensor, "prompt length k"],
    width: int,
    swaps: int,
    generators: Sequence[torch.Generator],
) -> Int64[Tensor, "prompt {width} length"]:
    """Candidates that differ from prompts in random positions (GCG: Zou et al., 2023, arXiv 2307.15043).

    Each prompt gets ``width`` candidates from its own CPU generator; a candidate changes ``swaps`` positions (all where
    a prompt has fewer), each to one of the position's ``choices``.
    """
    prompts, length, k = choices.shape
    swaps = min(swaps, length)
    positions = torch.stack([torch.rand(width, length, generator=g).argsort(1)[:, :swaps] for g in generators])
    ranks = torch.stack([torch.randint(k, (width, swaps), generator=g) for g in generators])
    positions, ranks = positions.to(ids.device), ranks.to(ids.device)
    rows = torch.arange(prompts, device=ids.device).view(-1, 1, 1)
    candidates = ids.unsqueeze(1).repeat(1, width, 1)
    return candidates.scatter_(2, positions, choices[rows, positions, ranks])


def sample_blocks(
    ids: Int64[Tensor, "prompt length"],
    allowed: Int64[Tensor, " allowed"],
    width: int,
    swaps: int,
    generators: Sequence[torch.Generator],
) -> Int64[Tensor, "prompt {width} length"]:
    """Candidates with random tokens at neighbouring positions (Andriushchenko et al., 2024, arXiv 2404.02151).

    As :func:`sample_swaps`, except that any ``allowed`` id may stand at any position.
    """
    length = ids.shape[1]
    swaps = min(swaps, length)
    first = torch.stack([torch.randint(length - swaps + 1, (width, 1), generator=g) for g in generators])
    places = torch.stack([torch.randint(len(allowed), (width, swaps), generator=g) for g in generators])
    positions = (first + torch.arange(swaps)).to(ids.device)
    return ids.unsqueeze(1).repeat(1, width, 1).scatter_(2, positions, allowed[places.to(ids.device)])


def scheduled_swaps(step: int, first: int, last: int, steps: int) -> int:
    """How many tokens a candidate replaces at a step, when that falls from ``first`` to ``last`` over ``steps``."""
    return last + round(max(0.0, 1.0 - step / steps) * (first - last))
