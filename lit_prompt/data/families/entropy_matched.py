"""Random targets as the paper makes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from lit_prompt.data.families.base import EntropyGridFamily
from lit_prompt.data.families.wish import matched_targets
from lit_prompt.data.target import Target
from lit_prompt.functional import match_entropy
from lit_prompt.lm import Vocabulary


@dataclass
class EntropyMatched(EntropyGridFamily):
    """Random targets: random logits that descend (H - h)^2 until their entropy is h.

    The *random (vanilla) targets* of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244).

    Attributes:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
        lr: step size of the descent (Adam).
        tolerance: largest accepted difference between H and h in nats.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    lr: float = 0.1
    tolerance: float = 1e-3
    name: str = "random"
    seed: int = 0

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields ``per_entropy`` targets at each entropy of the grid."""
        match = partial(match_entropy, lr=self.lr, tolerance=self.tolerance)
        return matched_targets(self.wishes(vocabulary), vocabulary, match)
