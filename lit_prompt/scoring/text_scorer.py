"""How close texts come to targets, told without gradients: by an LM at hand, or by what a server says."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.scoring.slots import Member, Slots


class TextScorer(ABC):
    """Scores texts for the targets of some slots, in their contexts; low is close.

    Args:
        slots: what is searched.

    Attributes:
        spent: whether a budget did not suffice for the texts that were scored last.
    """

    spent = False

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._passes = torch.zeros(len(slots), dtype=torch.long)

    @abstractmethod
    def divergences(self, texts: Sequence[str], members: Sequence[Member]) -> tuple[Tensor, list[int]]:
        """KL(target || LM) of every member's target after every text, in the member's context.

        Returns:
            Nats, ``[text, member]``, float64, ``inf`` where nothing is known; and how often the LM was asked for each
            text.
        """

    def table(self, texts: Sequence[str], makers: Sequence[int], slots: Sequence[int]) -> Tensor:
        """Scores of texts for slots: the mean KL of their tasks' targets, by weight.

        Args:
            texts: any number.
            makers: the slot that each was made for, which counts it.
            slots: all of one group, whose contexts are the same.

        Returns:
            Nats, ``[text, slot]``, float32.
        """
        members = [member for slot in slots for member in self.slots.targets(slot)]
        kl, passes = self.divergences(texts, members)
        for maker, count in zip(makers, passes, strict=True):
            self._passes[maker] += count
        scores, first = torch.empty(len(texts), len(slots), dtype=torch.float64), 0
        for place, slot in enumerate(slots):
            own = self.slots.targets(slot)
            weight = torch.tensor([member.weight for member in own], dtype=torch.float64)
            scores[:, place] = kl[:, first : first + len(own)] @ weight
            first += len(own)
        return scores.nan_to_num(nan=math.inf).float()

    def take_passes(self) -> Tensor:
        """How often the LM was asked for each slot since this was last taken, ``[slot]``, int64."""
        passes, self._passes = self._passes, torch.zeros_like(self._passes)
        return passes
