"""One-hot targets."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.target import Target
from lit_prompt.lm import Vocabulary


@dataclass
class OneHot(TargetFamily):
    """All mass on one token: the target of a prompt that forces a token.

    Attributes:
        tokens: texts (`` yes``) or ids; by default random ordinary tokens.
        count: how many random tokens, when ``tokens`` is not given.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    tokens: list[int | str] | None = None
    count: int = 16
    name: str = "one_hot"
    seed: int = 0

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields a target for each token."""
        ordinary = np.array(vocabulary.ordinary_ids)
        count = self.count if self.tokens is None else len(self.tokens)
        seeds = [self.target_seed(i) if self.tokens is None else None for i in range(count)]
        for i, seed in enumerate(seeds):
            if self.tokens is None:
                token_id = int(np.random.default_rng(seed).choice(ordinary))
            else:
                token_id = vocabulary.checked_id(self.tokens[i], f"family {self.name}")
            target_id = f"{self.name}/{i}/{vocabulary.text(token_id)}"
            ids, weights = torch.tensor([token_id]), torch.ones(1)
            yield Target.from_weights(
                target_id, self.name, ids, weights, vocabulary.size,
                seed=seed, exchangeable="ordinary" if self.tokens is None else None, token_id=token_id,
            )  # fmt: skip
