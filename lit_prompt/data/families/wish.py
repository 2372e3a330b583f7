"""Targets to order: what is wanted of them, and the random logits that they are made from."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from lit_prompt.data.target import Exchangeable, Target
from lit_prompt.lm import Vocabulary

# what is worked on at a time; the working memory is some ten times this MiB, which a CPU's cache holds
_ELEMENTS_PER_BLOCK = 2**18


@dataclass(frozen=True)
class Wish:
    """A target to be made.

    Attributes:
        target_id: the id that it gets.
        family: the family that it counts to.
        seed: decides the starting logits and the outlier tokens.
        entropy: nats.
        partner_of: id of the target that it is to be compared with.
        before: text before the prompt, or None for the module's.
        after: text after the prompt, or None for the module's.
    """

    target_id: str
    family: str
    seed: int
    entropy: float
    partner_of: str | None = None
    before: str | None = None
    after: str | None = None

    def target(
        self, logits: Tensor, vocabulary: Vocabulary, alike: Exchangeable = "defined", **facts: object
    ) -> Target:
        """The target of logits of the defined ids, ``[defined]``, that were made for it.

        ``alike`` are the tokens that were treated alike in this. A partner does not count as random: what it is to be
        compared with need not be.
        """
        logits = over_all_ids(logits, vocabulary)
        exchangeable = None if self.partner_of is not None else alike
        target = Target.from_logits(
            self.target_id, self.family, logits, self.seed, exchangeable, wanted_entropy=self.entropy, **facts
        )
        target.partner_of, target.before, target.after = self.partner_of, self.before, self.after
        return target


def over_all_ids(logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Logits of the ids that stand for a token, ``[defined]``, over all ids ``[vocab]``: others have no mass."""
    if not vocabulary.undefined_ids:
        return logits
    every = logits.new_full((vocabulary.size,), -math.inf)
    every[torch.tensor(vocabulary.defined_ids)] = logits
    return every


def wish_blocks(wishes: Iterable[Wish], vocabulary: Vocabulary) -> Iterator[tuple[list[Wish], Tensor]]:
    """Takes as many wishes at a time as can be worked on together, with Gaussian logits ``[wish, defined]``, float32.

    The logits depend on a wish's seed alone: wishes of one seed start from the same ones.
    """
    left, size = iter(wishes), len(vocabulary.defined_ids)
    while block := list(islice(left, max(1, _ELEMENTS_PER_BLOCK // size))):
        generators = [torch.Generator().manual_seed(wish.seed) for wish in block]
        yield block, torch.stack([torch.randn(size, generator=generator) for generator in generators])


def matched_targets(
    wishes: Iterable[Wish], vocabulary: Vocabulary, match: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[Target]:
    """Makes a target for each wish; ``match`` brings logits ``[item, defined]`` to entropies ``[item]``, float32."""
    for block, start in wish_blocks(wishes, vocabulary):
        matched = match(start, torch.tensor([wish.entropy for wish in block]))
        for wish, logits in zip(block, matched, strict=True):
            yield wish.target(logits, vocabulary)
