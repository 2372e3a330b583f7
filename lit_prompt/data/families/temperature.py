"""Targets of a wanted entropy by temperature."""

from torch import Tensor

from lit_prompt.data.families.base import EntropyGridFamily
from lit_prompt.functional import temperature_for_entropy


class Temperature(EntropyGridFamily):
    """Gaussian logits at the temperature that gives the wanted entropy.

    Args:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    def __init__(
        self, entropies: int | list[float] = 12, per_entropy: int = 8, name: str = "temperature", seed: int = 0
    ) -> None:
        super().__init__(entropies, per_entropy, name, seed)

    def match(self, logits: Tensor, entropy: Tensor) -> Tensor:
        """Bisection on the temperature: ``[item, vocab]`` and ``[item]`` to ``[item, vocab]``."""
        return temperature_for_entropy(logits, entropy)
