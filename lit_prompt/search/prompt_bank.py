"""A bank of prompts, of which each target gets the best to start with."""

import math
from collections.abc import Iterable
from itertools import chain, islice

import torch
from torch import Tensor

from lit_prompt.lm import LMCache, Vocabulary, sample_prompts
from lit_prompt.scoring import LMScorer
from lit_prompt.search.starts import TokenStart
from lit_prompt.search.token_problem import TokenProblem

_LENGTHS = 4  # a sequence has so many times a prompt's length
_LONGER = 64  # or so many tokens more than a prompt, if that is less: long texts take the LM minutes to make
_NATURAL = 64  # positions of a natural one, if that is more; of longer ones there are fewer, as many tokens in all
_RESCORED = 16
_RESCORED_NATURAL = 32
_OFFERED = 16  # starts of a slot
_FEWEST = 16  # of sequences that are left where a task has many contexts


class PromptBank:
    """Natural texts, texts that the LM makes, tokens drawn from the targets, and random ones.

    One pass over a long sequence gives the LM's next-token distribution after each of its positions, so that each is
    scored as if it were a prompt. The windows that end at the best positions are then scored as the prompts they are.
    With ``share`` the slots of a group may start with what was drawn for others. All but the sequences drawn from the
    targets is kept in the cache: for them the LM makes its texts and its pass once for all targets and runs.

    In memory are, beside logits of 0.5 GB at most (:meth:`lit_prompt.scoring.PromptedLM.most_rows`), the scores of a
    kind of sequences that are ``width`` tokens long, ``4 sequences (width - length + 1) slots`` bytes in float32, and
    the states for the cache, ``4 sequences (width - length + 1) (features + 1)``: 34 MB of SmolLM2's natural ones.
    """

    def __init__(self, init: TokenStart, vocabulary: Vocabulary, share: bool, cache: LMCache) -> None:
        self._init = init
        self._vocabulary = vocabulary
        self._share = share
        self._cache = cache

    def starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        """The best prompts of the bank for each slot, ``[slot, start, length]``, with their scores, ``[slot, start]``.

        The first is the best that survives as text, if one does, whatever its rank; scores are in nats.
        """
        windows, owner = zip(*(self._windows(problem, slots) for slots in problem.slots.groups), strict=True)
        ids, slots = torch.cat(windows), torch.cat(owner)
        ids = problem.readable.repaired(ids, slots)
        if self._share:
            scores = problem.scorer.table(ids, slots)
        else:
            own = problem.scorer.scores(ids, slots)
            scores = own.new_full((len(ids), len(problem)), torch.inf)
            scores[torch.arange(len(ids)), slots] = own
        scores = scores.T
        best, score = problem.readable.best(ids.expand(len(problem), -1, -1), scores, torch.arange(len(problem)))
        others = scores.sort(dim=1, stable=True)
        first = torch.cat([best.unsqueeze(1), others.indices[:, :_OFFERED]], 1)
        return ids[first], torch.cat([score.unsqueeze(1), others.values[:, :_OFFERED]], 1)

    def _windows(self, problem: TokenProblem, slots: Tensor) -> tuple[Tensor, Tensor]:
        """The best windows of a group, ``[window, position]``, and the slot of each, ``[window]``."""
        common = torch.cat(list(self._common(problem, int(slots[0]))))
        windows = [self._best_windows(problem.ranker, common, slots, _RESCORED, self._cache)]
        natural = self._natural(problem, int(slots[0]))
        if natural is not None:
            windows.append(self._best_windows(problem.ranker, natural, slots, _RESCORED_NATURAL, self._cache))
        if self._init.drawn_sequences:
            drawn = [
                self._best_windows(problem.ranker, self._drawn(problem, slot), torch.tensor([slot]), _RESCORED)
                for slot in slots.tolist()
            ]
            windows.append(torch.cat(drawn))
        owner = [slots.repeat_interleave(found.shape[1]) for found in windows]
        return torch.cat([found.flatten(0, 1) for found in windows]), torch.cat(owner)

    def _width(self, problem: TokenProblem, slot: int, least: int = 0) -> int:
        longest = problem.lm.max_length
        width = max(min(_LENGTHS * problem.length, problem.length + _LONGER), least)
        if longest is None:
            return width
        before = max(len(context.before_ids) for context in problem.slots.contexts_of(slot))
        return max(problem.length, min(width, longest - before))

    def _common(self, problem: TokenProblem, slot: int) -> Iterable[Tensor]:
        """Sequences for all slots of a group, ``[sequence, position]``."""
        width, init, seed = self._width(problem, slot), self._init, problem.group_seed(slot)
        generator = torch.Generator().manual_seed(seed)
        yield problem.random_ids(_count(max(init.random_sequences, 1), width) * width, generator).view(-1, width)
        if init.sampled_texts:
            texts = _count(init.sampled_texts, width)
            ids = sample_prompts(problem.lm, self._vocabulary, texts, width, seed, self._cache)
            if ids is not None:
                yield self._only_allowed(problem, ids, generator)

    def _natural(self, problem: TokenProblem, slot: int) -> Tensor | None:
        """Pieces of natural texts, one after another, ``[sequence, position]``; None where there are none."""
        init, width = self._init, self._width(problem, slot, _NATURAL)
        if init.texts is None or not init.natural_texts:
            return None
        encoded = chain.from_iterable(self._vocabulary.encode(f" {text}") for text in init.texts.texts())
        ids = list(islice(encoded, _count(init.natural_texts, width) * width))
        if len(ids) < width:
            return None
        whole = torch.tensor(ids[: len(ids) // width * width]).view(-1, width)
        return self._only_allowed(problem, whole, torch.Generator().manual_seed(problem.group_seed(slot)))

    def _only_allowed(self, problem: TokenProblem, ids: Tensor, generator: torch.Generator) -> Tensor:
        """Replaces tokens that are not allowed by random ones."""
        others = problem.random_ids(ids.numel(), generator).view(ids.shape)
        return torch.where(problem.table.index(ids) >= 0, ids, others)

    def _drawn(self, problem: TokenProblem, slot: int) -> Tensor:
        generator = problem.generator(slot, "bank")
        p = problem.target_mass(slot)
        p = p + 1e-3 * p.sum().clamp_min(1e-6) / len(p)  # a target of few tokens would repeat them only
        width = self._width(problem, slot)
        count = _count(self._init.drawn_sequences, width) * width
        index = torch.multinomial(p, count, replacement=True, generator=generator)
        return problem.allowed[index].view(-1, width)

    def _best_windows(
        self, scorer: LMScorer, sequences: Tensor, slots: Tensor, count: int, cache: LMCache | None = None
    ) -> Tensor:
        """What stands before the positions where each slot's score is best, ``[slot, window, position]``."""
        length = scorer.length
        # a position is followed by the sequence, not by the text after the prompt
        if any(context.after_ids for context in scorer.slots.contexts_of(int(slots[0]))):
            sequences = sequences[:, : sequences.shape[1] // length * length].reshape(-1, length)
        # each goes through the LM once for each context
        contexts = len(scorer.slots.contexts_of(int(slots[0])))
        sequences = sequences[:: max(1, min(contexts, len(sequences) // _FEWEST))]
        # where nothing is shared, a slot's budget must not depend on the other slots
        scores = scorer.scan(sequences, slots, self._share, cache)
        ends = scores.shape[1]
        best = scores.flatten(0, 1).topk(min(count, len(scores) * ends), dim=0, largest=False).indices.T
        # more than a prompt holds: a window's text may be encoded to fewer tokens
        span = torch.arange(-length // 2, length)
        positions = (best % ends).unsqueeze(-1) + span
        return sequences[(best // ends).unsqueeze(-1), positions.clamp_min(0)]


def _count(wanted: int, width: int) -> int:
    """How many sequences there are in place of the wanted: fewer where they are long, as many tokens in all."""
    return math.ceil(wanted * min(width, _NATURAL) / width)
