"""Our own search: cheap positions are drawn more often, and every candidate is tried for every target."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.candidates import candidate_scores
from lit_prompt.search.first_order import swap_choices
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem
from lit_prompt.search.visited import Visited

# a target that has not improved for this many steps gets half the candidates of one that just has
_PATIENCE = 20
# prompts that are remembered for each slot, in half a megabyte: more than a search of a thousand steps tries
_REMEMBERED = 2**16
# a stuck search goes on from its best prompt with one token in this many replaced by a random one
_KICKED_SHARE = 5


@dataclass(eq=False)
class SharedSearch(Searcher):
    """Coordinate search in which targets share their candidates, and cheap positions get more of them.

    A step draws single-token swaps of each target's best prompt from the first-order ranking (HotFlip, Ebrahimi et al.,
    2018) and scores them. Three things set it apart from GCG (Zou et al., 2023, arXiv 2307.15043):

    - One pass through the LM gives a prompt's score for every target with the same texts around its prompt, so that
      each takes the best prompt that was tried for any of them.
    - The tokens before a changed position are computed once, so that a swap of the last token costs one position and a
      swap of the first one all of them. A position is drawn as often as it is cheap.
    - No prompt is scored twice, as far as the last 65,536 of each target tell, and targets that do not improve any more
      leave their candidates to the others. Where all of a prompt's swaps were tried, the search goes on from the best
      prompt with some random tokens in it.

    Args:
        width: candidates of a step for each target, counted in whole prompts; swaps of late tokens cost less, so that
            more of them are tried.
        top_k: replacements of each position that are drawn from.
        share: score every candidate for every target; without it a target's result does not depend on the others.
    """

    method = "shared"

    width: int = 12
    top_k: int = 256
    share: bool = True

    def __post_init__(self) -> None:
        self.require_at_least(width=1, top_k=1)

    @property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether candidates are scored for every target."""
        return self.share

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start of each slot; nothing has been visited."""
        return {
            "ids": ids.clone(),
            "scores": scores.clone(),
            "best_ids": ids.clone(),
            "best_scores": scores.clone(),
            "stale": torch.zeros_like(scores, dtype=torch.long),  # steps without a better prompt
            "visited": torch.zeros(0, dtype=torch.long),
            "tried": torch.zeros(len(problem), dtype=torch.long),  # visited prompts of each owner
        }

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries new swaps for each slot."""
        current = state["ids"][running]
        choices = swap_choices(problem, current, running, self.top_k)
        candidates, base = self._candidates(problem, current, choices, number, running, state["stale"])
        owners = self._owners(problem)
        owner = owners[running]
        # a slot is stuck once all swaps of its prompt are known: those are never more than what is remembered
        each = max(_REMEMBERED, choices.shape[1] * choices.shape[2])
        most = (torch.bincount(owners, minlength=len(problem)) * each).clamp_min(1)
        visited = Visited(problem.length, state["visited"], state["tried"], most)
        new = visited.new(candidates, owner[base])
        state["visited"], state["tried"] = visited.hashes, visited.counts
        candidates, base = candidates[new], base[new]
        stuck = self._stuck(visited, current, choices, owner, torch.bincount(base, minlength=len(running)))
        pool = candidates.expand(len(running), -1, -1)
        scores = self._scores(problem, running, pool, current, base)
        best, score = problem.readable.best(pool, scores, running, below=state["scores"][running])
        moved = score.isfinite()
        state["ids"][running[moved]] = candidates[best[moved]]
        state["scores"][running[moved]] = score[moved]
        better = moved & (score < state["best_scores"][running])
        state["best_ids"][running[better]] = candidates[best[better]]
        state["best_scores"][running[better]] = score[better]
        state["stale"][running] = torch.where(better, 0, state["stale"][running] + 1)
        self._kick(problem, state, running[stuck & ~moved], number)
        everything = torch.tensor(len(problem.allowed) ** float(problem.length))  # more than an integer may hold
        found = torch.where(better, score, torch.inf)
        return Found.of(len(problem), running, state["best_ids"][running], found, state["tried"][owner] >= everything)

    def _scores(self, problem: TokenProblem, running: Tensor, pool: Tensor, prompts: Tensor, base: Tensor) -> Tensor:
        """Scores of candidates for every running slot, or for those they were made for, ``[running, candidate]``."""

        def some(scorer: LMScorer, bases: Bases, row: Tensor, place: Tensor) -> Tensor:
            return scorer.scores(pool[row, place], running[row], bases, base[place])

        def every(scorer: LMScorer, bases: Bases) -> Tensor:
            if self.share:
                return scorer.table(pool[0], running[base], bases, base)[:, running].T
            places = torch.arange(len(base))
            own = some(scorer, bases, base, places)
            return own.new_full(pool.shape[:2], torch.inf).index_put((base, places), own)

        return candidate_scores(problem, running, pool, prompts, every, some)

    def _owners(self, problem: TokenProblem) -> Tensor:
        """The owner of the prompts tried for each slot, ``[slot]``: its whole group where slots share, else itself."""
        return problem.slots.group if self.share else torch.arange(len(problem))

    def _candidates(
        self, problem: TokenProblem, current: Tensor, choices: Tensor, number: int, running: Tensor, stale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Swaps in the slots' prompts, ``[candidate, length]``, and whose prompt each is made from, ``[candidate]``."""
        counts = self._counts(problem, running, stale[running])
        places, ranks = [], []
        for slot, own in zip(running.tolist(), counts, strict=True):
            generator = problem.generator(slot, number)
            places.append(torch.multinomial(1 / self._price(problem, slot), own, replacement=True, generator=generator))
            ranks.append(torch.randint(choices.shape[2], (own,), generator=generator))
        base = torch.arange(len(running)).repeat_interleave(torch.tensor(counts))
        place = torch.cat(places)
        candidates = current[base]
        candidates[torch.arange(len(base)), place] = choices[base, place, torch.cat(ranks)]
        return candidates, base

    def _price(self, problem: TokenProblem, slot: int) -> Tensor:
        """Positions that must be computed for a swap at each place of a slot's prompt, ``[length]``, float64.

        Of a task with several contexts, their mean.
        """
        after = [len(context.after_ids) for context in problem.slots.contexts_of(slot)]
        return torch.arange(problem.length, 0, -1, dtype=torch.float64) + sum(after) / len(after)

    def _counts(self, problem: TokenProblem, running: Tensor, stale: Tensor) -> list[int]:
        """Candidates of each running slot: those that have not improved for some steps leave theirs to their group."""
        prices = [self._price(problem, slot) for slot in running.tolist()]
        counts = [int(self.width * float(price[0]) / problem.length * float((1 / price).sum())) for price in prices]
        if not self.share:
            return counts
        weight = double(_PATIENCE / (_PATIENCE + stale))
        group = problem.slots.group[running]
        mates = group.unsqueeze(1) == group
        share = weight / (mates * weight).sum(1) * mates.sum(1)
        return [max(1, round(count * own)) for count, own in zip(counts, share.tolist(), strict=True)]

    def _stuck(self, visited: Visited, current: Tensor, choices: Tensor, owner: Tensor, tried: Tensor) -> Tensor:
        """Which slots have no untried swap left, ``[running]``."""
        length, k = choices.shape[1:]
        places = torch.arange(length).repeat_interleave(k)
        stuck = tried == 0
        for row in stuck.nonzero().flatten().tolist():
            swaps = current[row].repeat(length * k, 1)
            swaps[torch.arange(length * k), places] = choices[row].flatten()
            stuck[row] = visited.known(swaps, owner[row].expand(len(swaps))).all()
        return stuck

    def _kick(self, problem: TokenProblem, state: SearchState, slots: Tensor, number: int) -> None:
        """Lets slots continue from their best prompt with some random tokens in it (iterated local search)."""
        swaps = max(2, problem.length // _KICKED_SHARE)
        for slot in slots.tolist():
            generator = problem.generator(slot, "kick", number)
            ids = state["best_ids"][slot].clone()
            places = torch.randperm(problem.length, generator=generator)[:swaps]
            ids[places] = problem.random_ids(len(places), generator)
            state["ids"][slot] = ids
            state["scores"][slot] = torch.inf
