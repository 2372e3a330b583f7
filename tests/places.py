"""Slots of single targets, and round trips between two texts, as many tests want them."""

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.data.target import Texts
from lit_prompt.lm import RoundTrip, Vocabulary
from lit_prompt.lm.round_trip import Surroundings
from lit_prompt.scoring import Context, Member, Slots


def single_targets(names: list[str], contexts: list[Context], restarts: int = 1) -> Slots:
    """Slots of tasks that are a target each."""
    return Slots(names, [[Member(target, context)] for target, context in enumerate(contexts)], restarts)


def round_trip(vocabulary: Vocabulary, before: str, after: str) -> RoundTrip:
    """A round trip between two texts."""
    ids = vocabulary.encode_start(before), vocabulary.encode_after(after)
    return RoundTrip(vocabulary, [Surroundings(before, *ids, True, lambda prompt: f"{before}{prompt}{after}")])


def single_targets_batch(
    index: list[int], ids: list[str], families: list[str], log_probs: Tensor, entropy: Tensor,
    partners: list[str | None] | None = None,
) -> TargetBatch:  # fmt: skip
    """Targets over tokens, each a task by itself, in the module's context."""
    nothing: list[None] = [None] * len(ids)
    weight = torch.ones(len(ids), dtype=torch.float64)
    return TargetBatch(
        index, ids, families, log_probs, entropy, [{} for _ in ids], partners or nothing,
        [Texts(None, None, None) for _ in ids], nothing, index, ids, weight, [False] * len(ids), nothing,
    )  # fmt: skip
