"""Scores of a step's candidates: of all of them, or of the best in a ranking that is cheaper."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.token_problem import TokenProblem

# of a slot's candidates that are scored again, beside those to be kept: of 256 swaps the best one was among the best
# four in bfloat16 in 12 of 12 tries (SmolLM2)
CONFIRMED = 4


Every = Callable[[LMScorer, Bases], Tensor]
Varied = Callable[[Tensor, Tensor], Tensor]


class CandidateScores:
    """Scores variations of the running slots' prompts; where candidates are screened, the best ones alone.

    Args:
        problem: what is searched.
        running: slots, ``[running]``.
        prompts: what is varied, the same number for each running slot, ``[prompt, length]``.
        kept: how many candidates a slot is to keep.
    """

    def __init__(self, problem: TokenProblem, running: Tensor, prompts: Tensor, kept: int = 1) -> None:
        self._problem = problem
        self._running = running
        self._prompts = prompts
        self._kept = kept
        self._own = running.repeat_interleave(len(prompts) // len(running))

    @cached_property
    def _bases(self) -> Bases:
        return self._problem.ranker.bases(self._prompts, self._own)

    @property
    def are_screened(self) -> bool:
        """Whether a ranking comes first."""
        return self._problem.rough is not None

    def ranks(self, ids: Tensor, every: Every, varied: Varied) -> Tensor:
        """Scores by which candidates of the running slots are ranked: their own, unless they are screened.

        Args:
            ids: candidates, ``[running, candidate, length]``.
            every: a scorer's scores of all candidates, ``[running, candidate]``; ``inf`` for those that do not count.
            varied: which of the prompts some candidates vary, ``[some]``, given by places among the running slots and
                among their candidates.

        Returns:
            Nats, ``[running, candidate]``.
        """
        return every(self._problem.ranker, self._bases)

    def confirmed(self, ids: Tensor, ranks: Tensor, varied: Varied) -> Tensor:
        """Scores in the LM's own precision, of the best in a ranking by :meth:`ranks`.

        Nats, ``[running, candidate]``; ``inf`` for all others. Where candidates are not screened, the ranking itself.
        """
        return self._best(ids, ranks, varied) if self.are_screened else ranks

    def of(self, ids: Tensor, every: Every, varied: Varied) -> Tensor:
        """Confirmed scores of candidates: as of :meth:`ranks` and :meth:`confirmed`, one after the other."""
        return self.confirmed(ids, self.ranks(ids, every, varied), varied)

    def _best(self, ids: Tensor, ranks: Tensor, varied: Varied) -> Tensor:
        places = self._problem.readable.first(ids, ranks, self._running, CONFIRMED + self._kept - 1)
        row, rank = (places >= 0).nonzero(as_tuple=True)
        place = places[row, rank]
        found = torch.full_like(ranks, torch.inf)
        scorer = self._problem.scorer
        used, base, count = varied(row, place).unique(return_inverse=True, return_counts=True)
        # a prompt is computed once for several of its variations; a single one goes through in one piece
        single = count[base] == 1
        if single.any():
            own = row[single], place[single]
            found[own] = scorer.scores(ids[own], self._running[own[0]])
        if not single.all():
            own, used, base = (row[~single], place[~single]), used[count > 1], (count > 1).cumsum(0)[base[~single]] - 1
            bases = scorer.bases(self._prompts[used], self._own[used])
            found[own] = scorer.scores(ids[own], self._running[own[0]], bases, base)
        return found


def variation_scores(problem: TokenProblem, running: Tensor, candidates: Tensor, prompts: Tensor) -> Tensor:
    """Scores of as many variations of each running slot's prompt: ``[running, candidate, length]`` to nats.

    ``[running, candidate]``, as of :class:`CandidateScores`; prompts are ``[running, length]``.
    """
    row, place = torch.ones(candidates.shape[:2]).nonzero(as_tuple=True)

    def every(scorer: LMScorer, bases: Bases) -> Tensor:
        return scorer.scores(candidates[row, place], running[row], bases, row).view(candidates.shape[:2])

    return CandidateScores(problem, running, prompts).of(candidates, every, lambda row, place: row)
