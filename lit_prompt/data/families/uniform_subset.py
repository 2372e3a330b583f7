"""Uniform targets over random tokens."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.target import Target
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary


@dataclass
class UniformSubset(TargetFamily):
    """Uniform over k random tokens; special tokens are left out.

    Attributes:
        sizes: the values of k.
        per_size: targets for each k.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    sizes: tuple[int, ...] = (2, 8, 64, 512)
    per_size: int = 8
    name: str = "uniform"
    seed: int = 0

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields ``per_size`` targets for each k."""
        ordinary = np.array(vocabulary.ordinary_ids)
        for k in self.sizes:
            if not 1 <= k <= len(ordinary):
                raise InputError(f"family {self.name}: {k} tokens are not among 1 to {len(ordinary)} ordinary tokens")
            for i in range(self.per_size):
                seed = self.target_seed(k, i)
                ids = torch.from_numpy(np.random.default_rng(seed).choice(ordinary, size=k, replace=False))
                yield Target.from_weights(
                    f"{self.name}/k{k}/{i}", self.name, ids, torch.ones(k), vocabulary.size,
                    seed=seed, exchangeable="ordinary", k=k,
                )  # fmt: skip
