"""The variations that a step of the shared search tries, and their scores."""

import torch
from torch import Tensor

from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.candidates import CandidateScores
from lit_prompt.search.token_problem import TokenProblem


class VariationPool:
    """Variations of the running slots' prompts, scored for every slot or for the one that each was made for.

    Where candidates are screened all are ranked, and the best few of all that were added are scored in the LM's own
    precision, once: those that may be better than their slot's prompt, as far as its own rank tells how ranks err.

    Args:
        problem: what is searched.
        running: slots, ``[running]``.
        prompts: theirs, ``[running, length]``.
        scores: theirs in nats, ``[running]``; ``inf`` where any variation is better.
        share: whether variations are scored for every slot.

    Attributes:
        ids: all that were added, ``[variation, length]``.
        standing: the ranks of the prompts themselves, nats, ``[running]``, once something was added; ``inf`` where
            their scores are.
    """

    def __init__(self, problem: TokenProblem, running: Tensor, prompts: Tensor, scores: Tensor, share: bool) -> None:
        self._running = running
        self._share = share
        self._prompt_scores = scores
        self._prompts = prompts
        self._scores = CandidateScores(problem, running, prompts)
        self.standing = scores
        self.ids = prompts[:0]
        self._base = running[:0]
        self._ranks: list[Tensor] = []

    def add(self, ids: Tensor, base: Tensor) -> Tensor:
        """Ranks variations ``[variation, length]``, each of the prompt of a running slot, ``[variation]``.

        Returns:
            Their ranks for the slots that they were made for, in nats, ``[variation]``.
        """
        ranks = self._first_ranked(ids, base) if not self._ranks else self._ranked(ids, base)
        self.ids, self._base = torch.cat([self.ids, ids]), torch.cat([self._base, base])
        self._ranks.append(ranks)
        return ranks[base, torch.arange(len(base))]

    def scores(self) -> Tensor:
        """Scores of all variations for the running slots, nats, ``[running, variation]``; ``inf`` for those unknown."""
        pool = self.ids.expand(len(self._running), -1, -1)
        ranks = torch.cat(self._ranks, 1)
        if self._scores.are_screened:
            error = (self.standing - self._prompt_scores).abs().nan_to_num()
            ranks = ranks.masked_fill(ranks >= (self.standing + error).unsqueeze(1), torch.inf)
        return self._scores.confirmed(pool, ranks, lambda row, place: self._base[place])

    def _first_ranked(self, ids: Tensor, base: Tensor) -> Tensor:
        """As :meth:`_ranked`; the prompts themselves are ranked beside them, where ranks are not scores."""
        if not self._scores.are_screened:
            return self._ranked(ids, base)
        every = torch.arange(len(self._running))
        ranks = self._ranked(torch.cat([self._prompts, ids]), torch.cat([every, base]))
        self.standing = ranks[every, every].masked_fill(self._prompt_scores.isinf(), torch.inf)
        return ranks[:, len(every) :]

    def _ranked(self, ids: Tensor, base: Tensor) -> Tensor:
        pool = ids.expand(len(self._running), -1, -1)
        places = torch.arange(len(base))

        def every(scorer: LMScorer, bases: Bases) -> Tensor:
            if self._share:
                return scorer.table(ids, self._running[base], bases, base)[:, self._running].T
            own = scorer.scores(ids, self._running[base], bases, base)
            return own.new_full(pool.shape[:2], torch.inf).index_put((base, places), own)

        return self._scores.ranks(pool, every, lambda row, place: base[place])
