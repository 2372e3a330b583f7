"""Tokens ranked by the first-order change of the score (HotFlip: Ebrahimi et al., 2018, arXiv 1712.06751)."""

import torch
from torch import Tensor

from lit_prompt.functional.swaps import best_swaps
from lit_prompt.search.token_problem import TokenProblem

# what the changes of a part of the prompts may take
_BYTES_PER_PART = 2**29


def swap_gradient(problem: TokenProblem, ids: Tensor, slots: Tensor) -> Tensor:
    """First-order change of each prompt's score for its slot when one of its tokens is replaced.

    ``[prompt, length]`` to ``[prompt, length, allowed]``, nats, up to a constant per position; on the LM's device.
    """
    _, gradient = problem.ranker.gradient(problem.lm.embed(ids).float(), slots)
    return first_order_change(problem, gradient.flatten(0, 1)).unflatten(0, ids.shape)


def first_order_change(problem: TokenProblem, gradient: Tensor) -> Tensor:
    """First-order change of the score for each allowed token at places with these gradients.

    ``[row, embedding]`` to ``[row, allowed]``, nats, up to a constant per row; on the LM's device. A row's values do
    not depend on how many rows there are.
    """
    return problem.table.products(gradient)


def swap_choices(problem: TokenProblem, ids: Tensor, slots: Tensor, k: int) -> Tensor:
    """The ``k`` replacements at each position that promise the largest decrease of a prompt's score for its slot.

    ``[prompt, length]`` to ``[prompt, length, k]``, best first.
    """
    row = 16 * problem.length * len(problem.allowed)
    parts = torch.arange(len(slots)).split(max(1, _BYTES_PER_PART // row))
    ranked = [ranked_swaps(problem, swap_gradient(problem, ids[p], slots[p]), ids[p], k) for p in parts]
    return torch.cat(ranked)


def ranked_swaps(problem: TokenProblem, change: Tensor, ids: Tensor, k: int) -> Tensor:
    """The ``k`` allowed tokens of least ``change`` ``[prompt, position, allowed]`` other than ``ids``, best first."""
    current = problem.table.index(ids).to(change.device)
    return problem.allowed[best_swaps(change, current, k).cpu()]
