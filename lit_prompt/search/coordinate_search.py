"""Search through the positions of a prompt, one at a time."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.scoring import Bases, LMScorer
from lit_prompt.search.candidates import CandidateScores
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem
from lit_prompt.search.visited import Visited

Order = Literal["forward", "backward", "random"]

# candidates that are held at once
_CANDIDATES_PER_PART = 2**17


class CoordinateSearch(Searcher):
    """Tries tokens at one position per step, in sweeps over all positions, and keeps each slot's best prompts."""

    def __init__(self, order: Order, beam_size: int) -> None:
        if order not in ("forward", "backward", "random"):
            raise InputError(f"model.searcher order is {order}; it must be forward, backward or random")
        self.order = order
        self.beam_size = beam_size
        self.require_at_least(beam_size=1)

    @abstractmethod
    def tokens(self, problem: TokenProblem, ids: Tensor, own: Tensor, positions: Tensor, number: int) -> Tensor:
        """Ids to try, ``[prompt, k]``, at a position ``[prompt]`` of each kept prompt ``[prompt, length]``.

        ``own`` holds the prompts' slots, ``[prompt]``; ``number`` is that of the step.
        """

    def ends(self, problem: TokenProblem) -> bool:
        """Whether a sweep that changed nothing would never change anything again."""
        return True

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start in the beam, whose other places are free."""
        beam = scores.new_full((len(problem), self.beam_size), torch.inf)
        beam[:, 0] = scores
        changed = torch.zeros(len(problem), dtype=torch.bool)
        return {"ids": ids.unsqueeze(1).repeat(1, self.beam_size, 1), "scores": beam, "changed": changed}

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries tokens at one position of every prompt that is kept."""
        beam, length = state["ids"][running], problem.length
        prompts = beam.flatten(0, 1)
        own = running.repeat_interleave(self.beam_size)
        positions = self._positions(problem, number, running).repeat_interleave(self.beam_size)
        tokens = self.tokens(problem, prompts, own, positions, number)
        k = tokens.shape[1]
        for part in torch.arange(len(running)).split(max(1, _CANDIDATES_PER_PART // (self.beam_size * k))):
            rows = (part.unsqueeze(1) * self.beam_size + torch.arange(self.beam_size)).flatten()
            candidates = prompts[rows].unsqueeze(1).repeat(1, k, 1)
            candidates.scatter_(2, positions[rows].view(-1, 1, 1).expand(-1, k, 1), tokens[rows].unsqueeze(2))
            # the prompts that are kept come first, so that they are not scored again
            pool = torch.cat([beam[part], candidates.view(len(part), -1, length)], 1)
            scores = self._scores(problem, running[part], pool, prompts[rows], k)
            scores[:, : self.beam_size] = state["scores"][running[part]]
            self._keep(problem, state, running[part], pool, scores)
        changed = state["changed"][running] | (state["ids"][running] != beam).flatten(1).any(1)
        last = (number + 1) % length == 0
        state["changed"][running] = changed & (not last)
        exhausted = ~changed & (last and self.ends(problem))
        return Found.of(len(problem), running, state["ids"][running, 0], state["scores"][running, 0], exhausted)

    def _scores(self, problem: TokenProblem, running: Tensor, pool: Tensor, prompts: Tensor, k: int) -> Tensor:
        """Scores of a pool ``[slot, prompt, length]`` of kept prompts and ``k`` variations of each, kept ones not."""

        def varied(row: Tensor, place: Tensor) -> Tensor:
            return row * self.beam_size + (place - self.beam_size) // k

        def every(scorer: LMScorer, bases: Bases) -> Tensor:
            row, place = self._new(pool)
            own = scorer.scores(pool[row, place], running[row], bases, varied(row, place))
            return own.new_full(pool.shape[:2], torch.inf).index_put((row, place), own)

        return CandidateScores(problem, running, prompts, self.beam_size).of(pool, every, varied)

    def _positions(self, problem: TokenProblem, number: int, running: Tensor) -> Tensor:
        """Where each slot's prompts change, ``[running]``."""
        sweep, place = divmod(number, problem.length)
        if self.order == "random":
            orders = [
                torch.randperm(problem.length, generator=problem.generator(slot, "order", sweep))
                for slot in running.tolist()
            ]
            return torch.stack(orders)[:, place]
        return torch.full_like(running, place if self.order == "forward" else problem.length - 1 - place)

    def _new(self, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Slots and places, ``[new]``, of a pool's prompts ``[slot, prompt, length]`` that are not kept or repeated."""
        slots, size, length = pool.shape
        row = torch.arange(slots).repeat_interleave(size)
        nothing, none = row[:0], torch.zeros(slots, dtype=torch.long)
        first = Visited(length, nothing, none, none + size).new(pool.flatten(0, 1), row)
        first = first[first % size >= self.beam_size]
        return row[first], first % size

    def _keep(self, problem: TokenProblem, state: SearchState, own: Tensor, pool: Tensor, scores: Tensor) -> None:
        """Puts the best prompts of each slot's pool into its beam; places that stay free hold its first prompt."""
        rows = torch.arange(len(own))
        for place in range(self.beam_size):
            best, score = problem.readable.best(pool, scores, own)
            state["ids"][own, place] = torch.where(score.isfinite().unsqueeze(1), pool[rows, best], pool[:, 0])
            state["scores"][own, place] = score
            scores[rows, best] = torch.inf
