"""The lift of a chunk's prompts: of the tasks that are a single target over tokens."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.models.floors import Floors
from lit_prompt.models.lift import lift
from lit_prompt.scoring import LMScorer

if TYPE_CHECKING:
    from lit_prompt.models.soft import SoftPrompt


def lift_chunk(module: "SoftPrompt", batch: TargetBatch, scorer: LMScorer, prompts: Tensor) -> None:
    """Lifts the first restart of every task that has a lift, in place.

    Args:
        module: has floors and settings.
        batch: the targets.
        scorer: of the chunk's prompts.
        prompts: ``[slot, length, embedding]``.
    """
    places, single = _single_targets(batch)
    if not places:
        return
    first = torch.tensor(places) * module.restarts

    def score(candidates: Tensor) -> Tensor:
        return scorer.scores(candidates, first).to(candidates)

    module.known.floors.sphere_points(single)  # with a bar of its own
    with module.micro_batch.shown("lift"):
        prompts[first] = lift(module.known.floors, single, prompts[first], score, module.max_norm)


def sphere_values(floors: Floors, batch: TargetBatch) -> Tensor:
    """The sphere's values of a chunk's tasks, nats, ``[task]``; ``-inf`` for those that have no lift."""
    found = torch.full((len(batch.tasks),), -torch.inf, dtype=torch.float64)
    places, single = _single_targets(batch)
    if places:
        found[places] = floors.sphere_points(single)[1].to(found)
    return found


def _single_targets(batch: TargetBatch) -> tuple[list[int], TargetBatch]:
    """The tasks of a chunk that are a single target over tokens, by their places, and those targets."""
    found = {
        place: of[0] for place, of in enumerate(batch.tasks.values()) if len(of) == 1 and batch.answers[of[0]] is None
    }
    return list(found), batch.subset(list(found.values()))
