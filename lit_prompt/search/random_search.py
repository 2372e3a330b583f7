"""Random search."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.swaps import sample_blocks, sample_swaps, scheduled_swaps
from lit_prompt.search.candidates import variation_scores
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem


@dataclass(eq=False)
class RandomSearch(Searcher):
    """Random replacements, kept where they are better (Andriushchenko et al., 2024, arXiv 2404.02151).

    It asks for no gradient. It begins with coarse changes, of several tokens, and ends with single ones.

    Args:
        width: candidates that a step tries for each slot.
        swaps: tokens that a candidate replaces at first; falls to 1.
        schedule: steps over which it falls.
        contiguous: the replaced tokens are neighbours.
    """

    method = "random_search"

    width: int = 64
    swaps: int = 4
    schedule: int = 50
    contiguous: bool = True

    def __post_init__(self) -> None:
        self.require_at_least(width=1, swaps=1, schedule=1)

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start of each slot."""
        return {"ids": ids.clone(), "scores": scores.clone()}

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries ``width`` candidates for each slot."""
        current = state["ids"][running]
        generators = [problem.generator(slot, number) for slot in running.tolist()]
        swaps = scheduled_swaps(number, self.swaps, 1, self.schedule)
        if self.contiguous:
            candidates = sample_blocks(current, problem.allowed, self.width, swaps, generators)
        else:
            choices = problem.allowed.expand(*current.shape, -1)
            candidates = sample_swaps(current, choices, self.width, swaps, generators)
        rows = torch.arange(len(running))
        scores = variation_scores(problem, running, candidates, current)
        best, score = problem.readable.best(candidates, scores, running, below=state["scores"][running])
        better = score.isfinite()
        state["ids"][running[better]] = candidates[rows, best][better]
        state["scores"][running[better]] = score[better]
        return Found.of(len(problem), running, state["ids"][running], score)
