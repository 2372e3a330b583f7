"""What the number of a hard prompt's tokens alone keeps it from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_floor_tokens, prompt_information
from lit_prompt.records.results import CURVE_LENGTHS, Columns

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def token_floor_columns(
    module: "PromptModule", batch: TargetBatch, kl: list[float | None], kl_floor: list[float | None]
) -> Columns:
    """The token floors of some targets, and how far above the larger of both floors their KLs are.

    Args:
        module: gives length and allowed tokens of the prompts.
        batch: the targets.
        kl: nats, None for a target that was not searched.
        kl_floor: certified floors, nats, None where unknown.

    Returns:
        ``kl_floor_tokens``, of prompts of the module's length: all those of a run hold together but with the
        probability :data:`lit_prompt.functional.token_floor.EPS`; ``excess_tokens``; and ``token_floor_curve``, of
        prompts of at most so many tokens as ``CURVE_LENGTHS`` says, which hold together as well. None for targets that
        are not random. Nothing for soft prompts.
    """
    if module.allowed is None:
        return {}
    own = prompt_information(len(module.allowed), module.length, module.data.targets.drawn)
    found = _floors(module, batch, [own, *_curve_information(module, CURVE_LENGTHS)])
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
    """Token floors of prompts of at most so many tokens, nats, for each target; None for those that are not random.

    All of a run's targets and of these lengths hold together.
    """
    return (
        [None] * len(batch) if module.allowed is None else _floors(module, batch, _curve_information(module, lengths))
    )


def _curve_information(module: "PromptModule", lengths: Sequence[int]) -> list[float]:
    assert module.allowed is not None
    claims = module.data.targets.drawn * len(lengths)
    return [prompt_information(len(module.allowed), length, claims, shorter=True) for length in lengths]


def _floors(module: "PromptModule", batch: TargetBatch, information: list[float]) -> list[list[float] | None]:
    """A floor of each target for each C, nats."""
    vocabulary = module.data.vocabulary
    ids = {"defined": vocabulary.defined_ids, "ordinary": vocabulary.ordinary_ids}
    known = [(i, kind) for i, kind in enumerate(batch.exchangeable) if kind is not None]
    found: list[list[float] | None] = [None] * len(batch)
    if known:
        exchangeable = torch.zeros(len(known), vocabulary.size, dtype=torch.bool)
        for row, (_, kind) in zip(exchangeable, known, strict=True):
            row[torch.tensor(ids[kind])] = True
        own = batch.log_probs[[i for i, _ in known]]
        floors = kl_floor_tokens(own, exchangeable, torch.tensor(information, dtype=torch.float64))
        for (i, _), values in zip(known, floors.tolist(), strict=True):
            found[i] = values
    return found
