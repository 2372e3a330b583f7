"""The contract of everything that tells how close prompts come to targets."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from lit_prompt.scoring.slots import Slots


class Scorer(ABC):
    """Scores prompts for the targets of some slots, in the contexts of those slots; low is close.

    All tensors of prompts, slots and scores are on the CPU, whatever device the LM is on. A scorer counts the forward
    passes that it makes.

    Attributes:
        slots: what is searched.
    """

    slots: Slots

    @abstractmethod
    def scores(self, prompts: Tensor, slots: Int[Tensor, " prompt"]) -> Float[Tensor, " prompt"]:
        """Scores of prompts, each for its slot.

        Args:
            prompts: token ids ``[prompt, length]``, or what else the scorer takes for a prompt.
            slots: ``[prompt]``.

        Returns:
            Nats, ``[prompt]``.
        """

    @abstractmethod
    def table(self, prompts: Tensor, slots: Int[Tensor, " prompt"]) -> Float[Tensor, "prompt slot"]:
        """Scores of prompts for every slot of the same group as the one that each was made for.

        Args:
            prompts: as of :meth:`scores`.
            slots: which slot each was made for, ``[prompt]``.

        Returns:
            Nats, ``[prompt, slot]``; ``inf`` for slots of other groups.
        """

    @abstractmethod
    def take_passes(self) -> Int[Tensor, " slot"]:
        """Forward passes made for each slot since they were last taken, ``[slot]``, int64."""
