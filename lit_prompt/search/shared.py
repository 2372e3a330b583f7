"""Our own search: positions by their price, and everything that is tried is tried for every target."""

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.searcher import Found, Searcher, SearchState, require_at_least
from lit_prompt.search.token_problem import TokenProblem
from lit_prompt.search.visited import Visited

# a target that has not improved for so many steps has half the candidates of one that just has
_PATIENCE = 20
# one token in so many is random in a prompt that a search goes on from when it is stuck
_KICKED_SHARE = 5


class SharedSearch(Searcher):
    """Coordinate search in which targets share their candidates, and cheap positions get more of them.

    A step draws single-token swaps of each target's best prompt from the first-order ranking (HotFlip, Ebrahimi et al.,
    2018) and scores them. Three things set it apart from GCG (Zou et al., 2023, arXiv 2307.15043):

    - One pass through the LM gives a prompt's KL for every target, so that each target takes the best prompt that was
      tried for any of them.
    - The tokens before a changed position are computed once, so that a swap of the last token costs one position and a
      swap of the first one all of them. A position is drawn as often as it is cheap.
    - No prompt is scored twice, and targets that do not improve any more leave their candidates to the others. Where
      all of a prompt's swaps were tried, the search goes on from the best prompt with some random tokens in it.

    Args:
        width: candidates of a step for each target, counted in whole prompts; swaps of late tokens cost less, so that
            more of them are tried.
        top_k: replacements of each position that are drawn from.
        share: score every candidate for every target; without it a target's result does not depend on the others.
    """

    method = "shared"

    def __init__(self, width: int = 12, top_k: int = 256, share: bool = True) -> None:
        require_at_least(width=(width, 1), top_k=(top_k, 1))
        self.width = width
        self.top_k = top_k
        self.share = share

    @property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether candidates are scored for every target."""
        return self.share

    def begin(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start of each target; nothing has been visited."""
        return {
            "ids": ids.clone(),
            "scores": scores.clone(),
            "best_ids": ids.clone(),
            "best_scores": scores.clone(),
            "stale": torch.zeros_like(scores, dtype=torch.long),  # steps without a better prompt
            "visited": torch.zeros(0, dtype=torch.long, device=ids.device),
        }

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries new swaps for each target."""
        current = state["ids"][running]
        choices = problem.swap_choices(current, running, self.top_k)
        candidates, base = self._candidates(problem, current, choices, number, running, state["stale"])
        own = torch.zeros_like(base) if self.share else running[base]
        visited = Visited(problem.length + 1, state["visited"])
        new = visited.new(torch.cat([candidates, own.unsqueeze(1)], 1))
        state["visited"] = visited.hashes
        candidates, base = candidates[new], base[new]
        tried = torch.bincount(base, minlength=len(running))
        problem.count(running, 2 + tried.cpu())
        stuck = self._stuck(visited, current, choices, running, tried)
        bases = problem.bases(current)
        if self.share:
            table = problem.scores(candidates, None, bases, base)[:, running].T
        else:
            scores = problem.scores(candidates, running[base], bases, base)
            table = scores.new_full((len(running), len(candidates)), torch.inf)
            table[base, torch.arange(len(candidates), device=running.device)] = scores
        best, score = problem.readable.best(
            candidates.expand(len(running), -1, -1), table, below=state["scores"][running]
        )
        moved = score.isfinite()
        state["ids"][running[moved]] = candidates[best[moved]]
        state["scores"][running[moved]] = score[moved]
        better = moved & (score < state["best_scores"][running])
        state["best_ids"][running[better]] = candidates[best[better]]
        state["best_scores"][running[better]] = score[better]
        state["stale"][running] = torch.where(better, 0, state["stale"][running] + 1)
        self._kick(problem, state, running[stuck & ~moved], number)
        done = torch.full_like(stuck, self._space_is_tried(problem, visited))
        found = torch.where(better, score, torch.inf)
        return Found.by(len(problem), running, state["best_ids"][running], found, done)

    def _candidates(
        self, problem: TokenProblem, current: Tensor, choices: Tensor, number: int, running: Tensor, stale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Swaps of each target's prompt, ``[candidate, length]``, and which target's each is, ``[candidate]``."""
        length, k = problem.length, choices.shape[2]
        price = torch.arange(length, 0, -1, dtype=torch.float64) + len(problem.after)
        count = int(self.width * (length + len(problem.after)) / length * (1 / price).sum())
        counts = self._shares(count, stale[running].cpu())
        places, ranks = [], []
        for target, own in zip(running.tolist(), counts, strict=True):
            generator = problem.generator(target, number)
            places.append(torch.multinomial(1 / price, own, replacement=True, generator=generator))
            ranks.append(torch.randint(k, (own,), generator=generator))
        base = torch.arange(len(running)).repeat_interleave(torch.tensor(counts)).to(current.device)
        place, rank = torch.cat(places).to(current.device), torch.cat(ranks).to(current.device)
        candidates = current[base]
        candidates[torch.arange(len(base), device=base.device), place] = choices[base, place, rank]
        return candidates, base

    def _shares(self, count: int, stale: Tensor) -> list[int]:
        """Candidates of each target, ``count`` on average: fewer for one that has not improved for some steps."""
        if not self.share:
            return [count] * len(stale)
        weight = double(_PATIENCE / (_PATIENCE + stale))
        return [max(1, round(count * len(stale) * share)) for share in (weight / weight.sum()).tolist()]

    def _stuck(self, visited: Visited, current: Tensor, choices: Tensor, running: Tensor, tried: Tensor) -> Tensor:
        """Which targets have no swap left that was not tried, ``[running]``."""
        length, k = choices.shape[1:]
        places = torch.arange(length, device=current.device).repeat_interleave(k)
        stuck = tried == 0
        for row in stuck.nonzero().flatten().tolist():
            swaps = current[row].repeat(length * k, 1)
            swaps[torch.arange(length * k, device=current.device), places] = choices[row].flatten()
            own = torch.full_like(places, self._owner(int(running[row]))).unsqueeze(1)
            stuck[row] = visited.known(torch.cat([swaps, own], 1)).all()
        return stuck

    def _kick(self, problem: TokenProblem, state: SearchState, targets: Tensor, number: int) -> None:
        """Lets targets go on from their best prompt with some random tokens in it (iterated local search)."""
        swaps = max(2, problem.length // _KICKED_SHARE)
        for target in targets.tolist():
            generator = problem.generator(target, "kick", number)
            ids = state["best_ids"][target].clone()
            places = torch.randperm(problem.length, generator=generator)[:swaps].to(ids.device)
            ids[places] = problem.random_ids(len(places), generator)
            state["ids"][target] = ids
            state["scores"][target] = torch.inf

    def _space_is_tried(self, problem: TokenProblem, visited: Visited) -> bool:
        """Whether every prompt there is was tried, for every target."""
        each = len(problem.allowed) ** problem.length
        return len(visited.hashes) >= each * (1 if self.share else len(problem))

    def _owner(self, target: int) -> int:
        # a sequence that was tried for one target was tried for all of them only where they share
        return 0 if self.share else target
