"""What is searched side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.scoring.context import Context


@dataclass(frozen=True)
class Slots:
    """A place for a prompt for each target and restart, the restarts of a target side by side."""

    target_ids: Sequence[str]
    contexts: Sequence[Context]  #: the texts around each target's prompts
    restarts: int = 1  #: slots of each target

    def __len__(self) -> int:
        return len(self.target_ids) * self.restarts

    def target(self, slot: int) -> int:
        """Index of a slot's target."""
        return slot // self.restarts

    def restart(self, slot: int) -> int:
        """Number of a slot's restart."""
        return slot % self.restarts

    def context(self, slot: int) -> Context:
        """The texts around a slot's prompt."""
        return self.contexts[self.target(slot)]

    @cached_property
    def targets(self) -> Tensor:
        """Index of each slot's target, ``[slot]``."""
        return torch.arange(len(self)) // self.restarts

    @cached_property
    def group(self) -> Tensor:
        """Number of each slot's group, ``[slot]``.

        Slots of one group have equal contexts and are of the same restart: a prompt of one is a prompt of all.
        """
        numbers: dict[tuple[Context, int], int] = {}
        keys = [(self.context(slot), self.restart(slot)) for slot in range(len(self))]
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])

    def groups(self) -> list[Tensor]:
        """The slots of each group."""
        return [(self.group == number).nonzero().flatten() for number in range(int(self.group.max()) + 1)]
