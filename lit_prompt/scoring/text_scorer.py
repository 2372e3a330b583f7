"""How close texts come to targets, told without gradients: by an LM at hand, or by what a server says."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.scoring.slots import Member, Slots


class Divergences(NamedTuple):
    """How far texts are from the targets of members."""

    kl: Tensor  #: KL(target || LM), nats, ``[text, member]``, float64; ``inf`` where nothing is known
    missed: Tensor  #: the part of it that is the LM's mass elsewhere (:func:`missed_mass`), likewise
    passes: list[int]  #: how often the LM was asked for each text


class TextScores(NamedTuple):
    """Scores of texts for slots: means over their tasks' targets, by weight, in nats, ``[text, slot]``, float32."""

    kl: Tensor  #: of KL(target || LM)
    missed: Tensor  #: of its part that is the LM's mass elsewhere


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
    def divergences(self, texts: Sequence[str], members: Sequence[Member]) -> Divergences:
        """Divergences between every member's target and the LM after every text, in the member's context."""

    def table(self, texts: Sequence[str], makers: Sequence[int], slots: Sequence[int]) -> TextScores:
        """Scores of texts for slots.

        Args:
            texts: any number.
            makers: the slot that each was made for, which counts it.
            slots: all of one group, whose contexts are the same.
        """
        members = [member for slot in slots for member in self.slots.targets(slot)]
        kl, missed, passes = self.divergences(texts, members)
        for maker, count in zip(makers, passes, strict=True):
            self._passes[maker] += count
        return TextScores(self._means(kl, slots), self._means(missed, slots))

    def _means(self, values: Tensor, slots: Sequence[int]) -> Tensor:
        """Of each slot's targets by their weights, ``[text, member]`` to ``[text, slot]``."""
        means, first = values.new_empty(len(values), len(slots)), 0
        for place, slot in enumerate(slots):
            own = self.slots.targets(slot)
            weight = torch.tensor([member.weight for member in own], dtype=torch.float64)
            means[:, place] = values[:, first : first + len(own)] @ weight
            first += len(own)
        return means.nan_to_num(nan=math.inf).float()

    def take_passes(self) -> Tensor:
        """How often the LM was asked for each slot since this was last taken, ``[slot]``, int64."""
        passes, self._passes = self._passes, torch.zeros_like(self._passes)
        return passes
