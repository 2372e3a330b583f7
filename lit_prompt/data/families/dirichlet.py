"""Dirichlet targets."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.families.wish import over_all_ids
from lit_prompt.data.target import Target
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary


@dataclass
class Dirichlet(TargetFamily):
    """Draws from a symmetric Dirichlet distribution over the whole vocabulary.

    Attributes:
        concentrations: values of alpha; small ones give few tokens nearly all mass.
        per_concentration: targets for each alpha.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    concentrations: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    per_concentration: int = 8
    name: str = "dirichlet"
    seed: int = 0

    def __post_init__(self) -> None:
        for alpha in self.concentrations:
            if not 0.0 < alpha < float("inf"):
                raise InputError(f"family {self.name}: concentration {alpha:g} is not a positive number")

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields ``per_concentration`` draws for each alpha."""
        size = len(vocabulary.defined_ids)
        for alpha in self.concentrations:
            for i in range(self.per_concentration):
                seed = self.target_seed(alpha, i)
                rng = np.random.default_rng(seed)
                # log of a Gamma(alpha) draw as log Gamma(alpha + 1) + log(U) / alpha: the draw itself underflows
                log_gamma = np.log(rng.standard_gamma(alpha + 1.0, size))
                log_gamma += np.log1p(-rng.random(size)) / alpha
                logits = over_all_ids(torch.from_numpy(log_gamma), vocabulary)
                yield Target.from_logits(
                    f"{self.name}/a{alpha:g}/{i}", self.name, logits, seed, "defined", concentration=alpha
                )
