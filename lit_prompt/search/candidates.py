"""Scores of a step's candidates: of all of them, or of the best in a ranking that is cheaper."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.token_problem import TokenProblem

# of a slot's candidates that are scored again, beside those to be kept: of 256 swaps the best one was among the best
# four in bfloat16 in 12 of 12 tries (SmolLM2)
_CONFIRMED = 4


def candidate_scores(
    problem: TokenProblem,
    running: Tensor,
    ids: Tensor,
    prompts: Tensor,
    every: Callable[[LMScorer, Bases], Tensor],
    some: Callable[[LMScorer, Bases, Tensor, Tensor], Tensor],
    kept: int = 1,
) -> Tensor:
    """Scores of candidates for the running slots; where candidates are screened, of the best ones alone.

    Args:
        problem: what is searched.
        running: slots, ``[running]``.
        ids: candidates, ``[running, candidate, length]``.
        prompts: what they are variations of, the same number for each running slot, ``[prompt, length]``.
        every: a scorer's scores of all candidates, ``[running, candidate]``; ``inf`` for those that do not count.
        some: its scores of some, ``[some]``, given by places among the running slots and among their candidates.
        kept: how many of them a slot is to keep.

    Returns:
        Nats, ``[running, candidate]``; ``inf`` for those that were not scored in the LM's own precision.
    """
    own = running.repeat_interleave(len(prompts) // len(running))
    bases = problem.scorer.bases(prompts, own)

    def exact() -> Tensor:
        return every(problem.scorer, bases)

    if (rough := problem.rough) is None:
        return exact()

    def screened() -> Tensor:
        ranks = every(rough, rough.bases(prompts, own))
        places = problem.readable.first(ids, ranks, running, _CONFIRMED + kept - 1)
        row, rank = (places >= 0).nonzero(as_tuple=True)
        place = places[row, rank]
        found = torch.full_like(ranks, torch.inf)
        found[row, place] = some(problem.scorer, bases, row, place)
        return found

    def tried() -> None:
        with problem.uncounted():
            screened()

    return screened() if problem.screening.on else problem.screening.measure(exact, tried)


def variation_scores(problem: TokenProblem, running: Tensor, candidates: Tensor, prompts: Tensor) -> Tensor:
    """Scores of as many variations of each running slot's prompt: ``[running, candidate, length]`` to nats.

    ``[running, candidate]``, as of :func:`candidate_scores`; prompts are ``[running, length]``.
    """

    def some(scorer: LMScorer, bases: Bases, row: Tensor, place: Tensor) -> Tensor:
        return scorer.scores(candidates[row, place], running[row], bases, row)

    def every(scorer: LMScorer, bases: Bases) -> Tensor:
        row, place = torch.ones(candidates.shape[:2]).nonzero(as_tuple=True)
        return some(scorer, bases, row, place).view(candidates.shape[:2])

    return candidate_scores(problem, running, candidates, prompts, every, some)
