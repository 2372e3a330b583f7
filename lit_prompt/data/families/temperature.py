"""Targets of a wanted entropy by temperature."""

from collections.abc import Iterator
from dataclasses import dataclass

from lit_prompt.data.families.base import EntropyGridFamily
from lit_prompt.data.families.wish import matched_targets
from lit_prompt.data.target import Target
from lit_prompt.functional import temperature_for_entropy
from lit_prompt.lm import Vocabulary


@dataclass
class Temperature(EntropyGridFamily):
    """Gaussian logits at the temperature that gives the wanted entropy.

    Attributes:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    name: str = "temperature"
    seed: int = 0

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields ``per_entropy`` targets at each entropy of the grid."""
        return matched_targets(self.wishes(vocabulary), vocabulary, temperature_for_entropy)
