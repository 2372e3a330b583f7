"""What every family of targets has in common."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from lit_prompt.data.families.wish import Wish
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional import seed_for
from lit_prompt.lm import Vocabulary


class TargetFamily(ABC):
    """Makes targets for a vocabulary.

    Attributes:
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
        takes_names: whether it makes targets for :class:`lit_prompt.data.named_answers.NamedAnswers`, too.
    """

    name: str
    seed: int = 0
    takes_names: ClassVar[bool] = False

    @abstractmethod
    def targets(self, vocabulary: Vocabulary) -> Iterator[Target | Rejected]:
        """Yields the family's targets; those with random parts depend on their own seed alone.

        In place of a target that cannot be made as it should be, a family yields why.

        Args:
            vocabulary: what the targets are distributions over.

        Raises:
            InputError: if the settings do not fit the vocabulary.
        """

    def target_seed(self, *parts: object) -> int:
        """Seed of one target, from the family's seed and what tells the target apart."""
        return seed_for(self.seed, *parts)


@dataclass
class EntropyGridFamily(TargetFamily):
    """A family with several targets at each of a grid of entropies.

    Attributes:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
    """

    entropies: int | list[float] = 12
    per_entropy: int = 8

    def wishes(self, vocabulary: Vocabulary) -> Iterator[Wish]:
        """Yields ``per_entropy`` wishes at each entropy of the grid, over the ids that stand for a token."""
        entropies = entropy_grid(self.entropies, len(vocabulary.defined_ids), f"family {self.name}")
        labels = entropy_labels(entropies)
        for h in entropies:
            for k in range(self.per_entropy):
                yield Wish(f"{self.name}/{labels[h]}/{k}", self.name, self.target_seed(labels[h], k), h)


def entropy_grid(entropies: int | Sequence[float], vocab_size: int, where: str) -> list[float]:
    """The wanted entropies in nats.

    Args:
        entropies: a list, or how many to space evenly from 0.1 to ln|V| - 0.1 (one alone: the middle).
        vocab_size: the tokens that can have mass.
        where: named in the error.

    Raises:
        InputError: if an entropy lies outside [0, ln|V|] or is listed twice.
    """
    highest = math.log(vocab_size)
    if isinstance(entropies, int):
        if entropies < 1:
            raise InputError(f"{where}: entropies is {entropies}; give a number of entropies of at least 1, or a list")
        low, high = (0.1, highest - 0.1) if entropies > 1 else (highest / 2, highest / 2)
        return torch.linspace(low, high, entropies, dtype=torch.float64).tolist()
    for h in entropies:
        if not 0.0 <= h <= highest:
            raise InputError(
                f"{where}: entropy {h:g} lies outside [0, ln|V|] = [0, {highest:.4f}] nats for |V| = {vocab_size}"
            )
    for h, count in Counter(entropies).items():
        if count > 1:
            raise InputError(f"{where}: entropy {h:g} is listed twice; for more targets at an entropy set per_entropy")
    return list(entropies)


def entropy_labels(entropies: Sequence[float]) -> dict[float, str]:
    """Names for distinct entropies in ids: ``H3.000``, with further decimals for those that three do not tell apart."""
    labels: dict[float, str] = {}
    decimals, alike = 3, list(entropies)
    while alike:
        texts = {h: f"H{h:.{decimals}f}" for h in alike}
        uses = Counter(texts.values())
        labels |= {h: text for h, text in texts.items() if uses[text] == 1}
        decimals, alike = decimals + 1, [h for h in alike if h not in labels]
    return labels
