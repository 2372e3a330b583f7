"""A weighted sum of objectives."""

import math
from typing import Any

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective


class WeightedSum(Objective):
    """A weighted sum of objectives.

    Args:
        objectives: what is summed.
        weights: of each; positive.
    """

    def __init__(self, objectives: list[Objective], weights: list[float]) -> None:
        if not objectives or len(objectives) != len(weights):
            raise InputError(
                f"model.objective has {len(objectives)} objectives and {len(weights)} weights; give each objective one"
            )
        if not all(0.0 < weight < math.inf for weight in weights):
            raise InputError(f"model.objective weights are {weights}; they must be positive")
        self.objectives = objectives
        self.weights = weights

    @property
    def name(self) -> str:  # type: ignore[override]
        """The sum, written out."""
        parts = zip(self.weights, self.objectives, strict=True)
        return " + ".join(f"{weight:g} {objective.name}" for weight, objective in parts)

    @property
    def needs_full_support(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(objective.needs_full_support for objective in self.objectives)

    @property
    def needs_logits(self) -> bool:  # type: ignore[override]
        """Whether any part does."""
        return any(objective.needs_logits for objective in self.objectives)

    @property
    def settings(self) -> dict[str, Any]:
        """The sum, and the settings of its parts."""
        parts = {f"{i}.{key}": value for i, part in enumerate(self.objectives) for key, value in part.settings.items()}
        return {"objective": self.name} | parts

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The sum of the parts' divergences."""
        return self._sum([objective.divergence(log_p, log_q) for objective in self.objectives])

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> list[Any]:
        """What each part needs."""
        return [objective.prepare(log_p, lm) for objective in self.objectives]

    def pairs(self, logits: Tensor, features: Tensor, prepared: list[Any], which: Tensor) -> Tensor:
        """The sum of the parts for each row and its target."""
        parts = zip(self.objectives, prepared, strict=True)
        return self._sum([objective.pairs(logits, features, own, which) for objective, own in parts])

    def table(self, logits: Tensor, features: Tensor, prepared: list[Any], which: Tensor | slice = ALL) -> Tensor:
        """The sum of the parts for each row and each of some targets."""
        parts = zip(self.objectives, prepared, strict=True)
        return self._sum([objective.table(logits, features, own, which) for objective, own in parts])

    def _sum(self, values: list[Tensor]) -> Tensor:
        weighted = [weight * value for weight, value in zip(self.weights, values, strict=True)]
        return torch.stack(weighted).sum(0)
