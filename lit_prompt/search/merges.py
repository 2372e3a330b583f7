"""Variations that help by themselves, tried together."""

from collections.abc import Iterator

import torch
from torch import Tensor


def merged(
    prompts: Tensor, prompt_scores: Tensor, candidates: Tensor, base: Tensor, scores: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Merges the changes of each prompt's best variations, one more at a time, where they are at different positions.

    Several swaps that lower a score one by one mostly lower it further together (multi-coordinate updates: Jia et al.,
    2024, arXiv 2405.21018).

    Args:
        prompts: ``[prompt, length]``.
        prompt_scores: in nats, ``[prompt]``.
        candidates: variations of them, ``[candidate, length]``.
        base: which of the prompts each varies, ``[candidate]``.
        scores: each variation's, for the slot of its prompt, ``[candidate]``.
        most: merges of a prompt.

    Returns:
        Merged variations, ``[merge, length]``, and which prompt each varies, ``[merge]``, rising.
    """
    order = scores.sort(stable=True).indices
    helpful = order[scores[order] < prompt_scores[base[order]]]
    found: list[Tensor] = []
    of: list[int] = []
    for row in base[helpful].unique().tolist():
        own = candidates[helpful[base[helpful] == row]]
        for merge in _merges(prompts[row], own, most):
            found.append(merge)
            of.append(row)
    if not found:
        return candidates[:0], base[:0]
    return torch.stack(found), torch.tensor(of)


def _merges(prompt: Tensor, variations: Tensor, most: int) -> Iterator[Tensor]:
    """A prompt's variations, best first, merged one after another."""
    changes = variations != prompt
    merge, changed = variations[0], changes[0]
    made = 0
    for variation, change in zip(variations[1:], changes[1:], strict=True):
        if made == most:
            return
        if bool((change & changed).any()):
            continue
        merge, changed = torch.where(change, variation, merge), changed | change
        made += 1
        yield merge
