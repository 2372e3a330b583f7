"""Greedy coordinate gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.swaps import sample_swaps, scheduled_swaps
from lit_prompt.search.candidates import variation_scores
from lit_prompt.search.first_order import ranked_swaps, swap_choices, swap_gradient
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem


@dataclass(eq=False)
class GCG(Searcher):
    """Greedy coordinate gradient (Zou et al., 2023, arXiv 2307.15043).

    A step takes the gradient at the one-hot tokens, tries random replacements among each position's ``top_k`` most
    promising ones, and goes on from the best, even where it is worse than before (as long as ``buffer`` is 0).

    Args:
        width: candidates that a step tries for each slot.
        top_k: replacements of each position that are drawn from.
        n_replace: tokens that a candidate replaces.
        n_replace_start: tokens that a candidate replaces at first; falls to ``n_replace`` over ``schedule`` steps
            (Accelerated Coordinate Gradient, Haize Labs, 2024). null for ``n_replace``.
        schedule: steps over which it falls.
        buffer: prompts kept for each slot; a step goes on from the best of them and puts its best candidate in the
            place of the worst one. 0 for none.
        momentum: share of the gradient before that is added to the present one (MAC: Zhang and Wei, 2024, arXiv
            2405.01229).
    """

    method = "gcg"
    on_device = ("momentum",)

    width: int = 512
    top_k: int = 256
    n_replace: int = 1
    n_replace_start: int | None = None
    schedule: int = 50
    buffer: int = 0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        self.require_at_least(width=1, top_k=1, n_replace=1, schedule=1, buffer=0, momentum=0)
        if self.n_replace_start is not None:
            self.require_at_least(n_replace_start=self.n_replace)

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start in the buffer; where a buffer has more places, they are free."""
        places = max(self.buffer, 1)
        kept = scores.new_full((len(problem), places), torch.inf)
        kept[:, 0] = scores
        state = {"ids": ids.unsqueeze(1).repeat(1, places, 1), "scores": kept}
        if self.momentum:
            state["momentum"] = torch.zeros(
                len(problem), problem.length, len(problem.allowed), device=problem.lm.device
            )
        return state

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries ``width`` candidates for each slot."""
        rows = torch.arange(len(running))
        kept, scores = state["ids"][running], state["scores"][running]
        current = kept[rows, scores.argmin(1)]
        if self.momentum:
            own = running.to(problem.lm.device)
            change = swap_gradient(problem, current, running) + self.momentum * state["momentum"][own]
            state["momentum"][own] = change
            choices = ranked_swaps(problem, change, current, self.top_k)
        else:
            choices = swap_choices(problem, current, running, self.top_k)
        generators = [problem.generator(slot, number) for slot in running.tolist()]
        first = self.n_replace if self.n_replace_start is None else self.n_replace_start
        swaps = scheduled_swaps(number, first, self.n_replace, self.schedule)
        candidates = sample_swaps(current, choices, self.width, swaps, generators)
        found = variation_scores(problem, running, candidates, current)
        best, score = problem.readable.best(candidates, found, running)
        ids = candidates[rows, best]
        worst = scores.argmax(1)
        accepted = score.isfinite() & ((score < scores[rows, worst]) | (self.buffer == 0))
        slot, place = running[accepted], worst[accepted]
        state["ids"][slot, place] = ids[accepted]
        state["scores"][slot, place] = score[accepted]
        return Found.of(len(problem), running, ids, score)
