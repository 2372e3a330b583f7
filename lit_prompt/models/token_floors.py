"""What the number of a hard prompt's tokens, and of a mixture's prompts, alone keeps it from."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lit_prompt.data import TargetBatch
from lit_prompt.functional import log_prompt_count, mixture_floor_tokens
from lit_prompt.functional.token_floor import EPS
from lit_prompt.records.results import CURVE_LENGTHS, Columns

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def token_floor_columns(
    module: "PromptModule", batch: TargetBatch, kl: list[float | None], kl_floor: list[float | None]
) -> Columns:
    """The token floors of some targets, and how far above the larger of both floors their KLs are.

    Args:
        module: gives length, allowed tokens, and number in a mixture of the prompts.
        batch: the targets.
        kl: nats, None for a target that was not searched.
        kl_floor: certified floors, nats, None where unknown, and for mixtures.

    Returns:
        ``kl_floor_tokens``, of prompts of the module's length, or mixtures of at most so many of them: all those of a
        run hold together but with the probability :data:`lit_prompt.functional.token_floor.EPS`; ``excess_tokens``;
        and ``token_floor_curve``, of prompts of at most so many tokens as ``CURVE_LENGTHS`` says, which hold together
        as well. None for targets that are not random. Nothing for soft prompts.
    """
    if module.allowed is None:
        return {}
    drawn, count = module.data.targets.drawn, len(CURVE_LENGTHS)
    counts = [log_prompt_count(len(module.allowed), module.length), *_curve_counts(module, CURVE_LENGTHS)]
    found = _floors(module, batch, counts, [drawn] + [drawn * count] * count)
    floors = [None if values is None else values[0] for values in found]
    return {
        "kl_floor_tokens": floors,
        "excess_tokens": [
            None if value is None or mine is None else value - max(mine, other or 0.0)
            for value, mine, other in zip(kl, floors, kl_floor, strict=True)
        ],
        "token_floor_curve": [None if values is None else values[1:] for values in found],
    }


def token_floor_curves(module: "PromptModule", batch: TargetBatch, lengths: Sequence[int]) -> list[list[float] | None]:
    """Token floors of prompts of at most so many tokens, or mixtures of them, nats, for each target.

    None for those that are not random. All of a run's targets and of these lengths hold together.
    """
    if module.allowed is None:
        return [None] * len(batch)
    claims = [module.data.targets.drawn * len(lengths)] * len(lengths)
    return _floors(module, batch, _curve_counts(module, lengths), claims)


def _curve_counts(module: "PromptModule", lengths: Sequence[int]) -> list[float]:
    assert module.allowed is not None
    return [log_prompt_count(len(module.allowed), length, shorter=True) for length in lengths]


def _floors(
    module: "PromptModule", batch: TargetBatch, log_counts: list[float], claims: list[int]
) -> list[list[float] | None]:
    """A floor of each target for each number of prompts, by its logarithm, of so many claims each, nats."""
    vocabulary = module.data.vocabulary
    ids = {"defined": vocabulary.defined_ids, "ordinary": vocabulary.ordinary_ids}
    known = [(i, kind) for i, kind in enumerate(batch.exchangeable) if kind is not None]
    found: list[list[float] | None] = [None] * len(batch)
    if known:
        exchangeable = torch.zeros(len(known), vocabulary.size, dtype=torch.bool)
        for row, (_, kind) in zip(exchangeable, known, strict=True):
            row[torch.tensor(ids[kind])] = True
        own = batch.log_probs[[i for i, _ in known]]
        chances = [math.log(EPS / of_claim) for of_claim in claims]
        counts, log_eps = (torch.tensor(values, dtype=torch.float64) for values in (log_counts, chances))
        floors = mixture_floor_tokens(own, exchangeable, counts, log_eps, module.components)
        for (i, _), values in zip(known, floors.tolist(), strict=True):
            found[i] = values
    return found
