"""Token prompts for some slots: which tokens they may hold, random draws, and what survives as text."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.functional import seed_for
from lit_prompt.functional.precision import double
from lit_prompt.lm import RoundTrip
from lit_prompt.scoring import LMScorer
from lit_prompt.search.readable_prompts import ReadablePrompts
from lit_prompt.search.token_table import TokenTable


class TokenProblem:
    """What a searcher may ask: scores from the scorer, and everything about tokens.

    Token ids, slots and scores are on the CPU; the scorer takes them to the LM's device.

    Args:
        scorer: scores prompts.
        log_probs: the targets, ``[target, vocab]``, on the CPU.
        allowed: ids that a prompt may hold, rising, ``[allowed]``, int64.
        seed: base of the seeds.
        round_trips: those of each slot's contexts; None where prompts need not survive as text.
        rough: a scorer of the same slots with the LM in half precision, which ranks candidates; None where they are not
            screened.
        number: that of the search, where there are several with one seed.
        words: of a corpus, which prompts may be made of.
    """

    def __init__(
        self,
        scorer: LMScorer,
        log_probs: Tensor,
        allowed: Tensor,
        seed: int,
        round_trips: Sequence[RoundTrip] | None = None,
        rough: LMScorer | None = None,
        number: int = 0,
        words: Sequence[str] = (),
    ) -> None:
        self.scorer = scorer
        self.lm = scorer.lm
        self.slots = scorer.slots
        self.log_probs = log_probs
        self.allowed = allowed
        self.table = TokenTable(self.lm, allowed)  #: embeddings of the allowed tokens
        self.length = scorer.length  #: tokens of a prompt
        self.readable = ReadablePrompts(round_trips, allowed, self.length)
        self.rough = rough
        self.words = words
        self._passes = torch.zeros(len(self.slots), dtype=torch.long)  # that were counted, and are not taken yet
        self._seed = seed
        self._number = (number,) if number else ()
        self._wanted: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def device(self) -> torch.device:
        """The LM's."""
        return self.lm.device

    @property
    def ranker(self) -> LMScorer:
        """What ranks, where a score itself is not needed."""
        return self.scorer if self.rough is None else self.rough

    def take_passes(self) -> Tensor:
        """Forward passes made for each slot since they were last taken, ``[slot]``, int64; rough ones, too."""
        passes, self._passes = self._passes + self.scorer.take_passes(), torch.zeros_like(self._passes)
        return passes if self.rough is None else passes + self.rough.take_passes()

    def release(self) -> None:
        """Drops the scorer in half precision, and its copy of the LM."""
        if self.rough is not None:
            self._passes, self.rough = self.take_passes(), None

    def group_seed(self, slot: int) -> int:
        """A seed that all slots of one restart share."""
        return seed_for(self._seed, self.slots.restart(slot))

    def generator(self, slot: int, *parts: object) -> torch.Generator:
        """Random numbers that follow from the seed, the search's number, a slot and whatever else is named."""
        name = self.slots.name(slot)
        return torch.Generator().manual_seed(seed_for(self.group_seed(slot), name, *parts, *self._number))

    def target_mass(self, slot: int) -> Tensor:
        """What a slot's target gives each allowed token, the mean over those of a task: ``[allowed]``, float64."""
        members = self.slots.targets(slot)
        log_probs = double(self.log_probs[[member.target for member in members]])
        weights = torch.tensor([member.weight for member in members], dtype=log_probs.dtype)
        return (weights @ log_probs.exp())[self.allowed]

    def wanted(self, slot: int, u: Tensor, most: int) -> Tensor:
        """Tokens drawn from a slot's target, one of its ``most`` likeliest for each uniform random number, ``[draw]``.

        Where it gives the allowed tokens nothing, any of them.
        """
        task = self.slots.task(slot)
        if task not in self._wanted:
            mass, index = self.target_mass(slot).topk(min(most, len(self.allowed)))
            mass = mass if mass[0] > 0 else torch.ones_like(mass)
            self._wanted[task] = self.allowed[index], mass.cumsum(0) / mass.sum()
        ids, cumulative = self._wanted[task]
        return ids[torch.searchsorted(cumulative, u).clamp_max(len(ids) - 1)]

    def random_ids(self, count: int, generator: torch.Generator) -> Tensor:
        """Random allowed tokens, ``[count]``."""
        return self.allowed[torch.randint(len(self.allowed), (count,), generator=generator)]
