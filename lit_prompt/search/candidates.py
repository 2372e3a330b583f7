"""Scores of a step's candidates: of all of them, or of the best in a ranking that is cheaper."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.token_problem import TokenProblem

# of a slot's candidates that are scored again, beside those to be kept: of 256 swaps the best one was among the best
# four in bfloat16 in 12 of 12 tries (SmolLM2)
_CONFIRMED = 4


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
        self._bases = problem.scorer.bases(prompts, self._own)
        self._rough_bases: Bases | None = None

    def of(
        self,
        ids: Tensor,
        every: Callable[[LMScorer, Bases], Tensor],
        some: Callable[[LMScorer, Bases, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Scores of candidates for the running slots.

        Args:
            ids: candidates, ``[running, candidate, length]``.
            every: a scorer's scores of all candidates, ``[running, candidate]``; ``inf`` for those that do not count.
            some: its scores of some, ``[some]``, given by places among the running slots and among their candidates.

        Returns:
            Nats, ``[running, candidate]``; ``inf`` for those that were not scored in the LM's own precision.
        """
        problem = self._problem
        if (rough := problem.rough) is None:
            return every(problem.scorer, self._bases)

        def screened() -> Tensor:
            if self._rough_bases is None:
                self._rough_bases = rough.bases(self._prompts, self._own)
            ranks = every(rough, self._rough_bases)
            places = problem.readable.first(ids, ranks, self._running, _CONFIRMED + self._kept - 1)
            row, rank = (places >= 0).nonzero(as_tuple=True)
            place = places[row, rank]
            found = torch.full_like(ranks, torch.inf)
            found[row, place] = some(problem.scorer, self._bases, row, place)
            return found

        def tried() -> None:
            with problem.uncounted():
                screened()
            self._rough_bases = None

        if problem.screening.on:
            return screened()
        return problem.screening.measure(lambda: every(problem.scorer, self._bases), tried)


def variation_scores(problem: TokenProblem, running: Tensor, candidates: Tensor, prompts: Tensor) -> Tensor:
    """Scores of as many variations of each running slot's prompt: ``[running, candidate, length]`` to nats.

    ``[running, candidate]``, as of :class:`CandidateScores`; prompts are ``[running, length]``.
    """

    def some(scorer: LMScorer, bases: Bases, row: Tensor, place: Tensor) -> Tensor:
        return scorer.scores(candidates[row, place], running[row], bases, row)

    def every(scorer: LMScorer, bases: Bases) -> Tensor:
        row, place = torch.ones(candidates.shape[:2]).nonzero(as_tuple=True)
        return some(scorer, bases, row, place).view(candidates.shape[:2])

    return CandidateScores(problem, running, prompts).of(candidates, every, some)
