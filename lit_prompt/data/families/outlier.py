"""Outlier targets as the paper makes them, and random ones to compare them with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from lit_prompt.data.families.base import EntropyGridFamily
from lit_prompt.data.families.partners import outlier_targets, random_targets, with_partners
from lit_prompt.data.target import Rejected, Target
from lit_prompt.lm import Vocabulary


@dataclass
class Outlier(EntropyGridFamily):
    """Targets of a wanted entropy in which k random tokens hold nearly all the mass that k tokens can hold.

    The *outlier targets* of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244): random logits
    descend a (H - h)^2 - b (mass of the k tokens) and are accepted when the entropy is h to 0.001 nats and the mass is
    at least m - delta, m being the largest mass that k tokens can hold at entropy h. What is not accepted is reported,
    not used.

    Attributes:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
        k: number of outlier tokens, drawn from the ordinary ones.
        delta: largest accepted difference between m and the outliers' mass.
        a: weight of the entropy's error.
        b: weight of the outliers' mass at the start; it shrinks once they hold it.
        lr: step size of the descent (Adam).
        name: family name in ids, tables and plots.
        partners: follow each target with a random one of the same entropy and starting logits, ``random/<id>``.
        seed: base of the seeds of the family's targets.
    """

    k: int = 5
    delta: float = 0.05
    a: float = 1.0
    b: float = 100.0
    lr: float = 0.1
    name: str = "outlier"
    partners: bool = True
    seed: int = 0

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target | Rejected]:
        """Yields ``per_entropy`` targets at each entropy of the grid, each with its partner after it."""
        made = outlier_targets(self.wishes(vocabulary), vocabulary, self.k, self.delta, self.a, self.b, self.lr)
        if self.partners:
            return with_partners(made, {"random": partial(random_targets, vocabulary=vocabulary)})
        return made
