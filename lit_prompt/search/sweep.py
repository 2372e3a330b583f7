"""Search that goes through the positions of a prompt, one after the other."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.search.searcher import Found, Searcher, SearchState, require_at_least
from lit_prompt.search.token_problem import TokenProblem
from lit_prompt.search.visited import Visited

Order = Literal["forward", "backward", "random"]

# candidates that are held at once
_CANDIDATES_PER_PART = 2**17


class Sweep(Searcher):
    """Tries tokens at one position a step, in sweeps over all positions, and keeps the best prompts of each target.

    Args:
        order: of the positions in a sweep: first to last, last to first, or a new random one in each sweep.
        beam_size: prompts that are kept for each target.
    """

    #: Prompts that go through the LM, for each that is kept, to choose its tokens.
    passes_to_choose: int

    def __init__(self, order: Order, beam_size: int) -> None:
        if order not in ("forward", "backward", "random"):
            raise InputError(f"model.searcher order is {order}; it must be forward, backward or random")
        require_at_least(beam_size=(beam_size, 1))
        self.order = order
        self.beam_size = beam_size

    @abstractmethod
    def tokens(self, problem: TokenProblem, ids: Tensor, own: Tensor, positions: Tensor, number: int) -> Tensor:
        """The tokens that are tried.

        Args:
            problem: the targets.
            ids: prompts that are kept, ``[prompt, length]``.
            own: the target of each, ``[prompt]``.
            positions: where it is to change, ``[prompt]``.
            number: of the step.

        Returns:
            Ids, ``[prompt, k]``.
        """

    def ends(self, problem: TokenProblem) -> bool:
        """Whether a sweep that changes nothing would change nothing ever after."""
        return True

    def begin(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The start in the beam, whose other places are free."""
        beam = scores.new_full((len(problem), self.beam_size), torch.inf)
        beam[:, 0] = scores
        changed = torch.zeros(len(problem), dtype=torch.bool, device=ids.device)
        return {"ids": ids.unsqueeze(1).repeat(1, self.beam_size, 1), "scores": beam, "changed": changed}

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Tries tokens at one position of every prompt that is kept."""
        beam, length = state["ids"][running], problem.length
        prompts = beam.flatten(0, 1)
        own = running.repeat_interleave(self.beam_size)
        positions = self._positions(problem, number, running).repeat_interleave(self.beam_size)
        tokens = self.tokens(problem, prompts, own, positions, number)
        problem.count(running, self.beam_size * (1 + self.passes_to_choose))
        bases = problem.bases(prompts)
        k = tokens.shape[1]
        for part in torch.arange(len(running), device=running.device).split(
            max(1, _CANDIDATES_PER_PART // (self.beam_size * k))
        ):
            rows = (part.unsqueeze(1) * self.beam_size + torch.arange(self.beam_size, device=part.device)).flatten()
            candidates = prompts[rows].unsqueeze(1).repeat(1, k, 1)
            candidates.scatter_(2, positions[rows].view(-1, 1, 1).expand(-1, k, 1), tokens[rows].unsqueeze(2))
            # the prompts that are kept come first, so that they are not scored again
            pool = torch.cat([beam[part], candidates.view(len(part), -1, length)], 1)
            scores = torch.full(pool.shape[:2], torch.inf, device=pool.device, dtype=state["scores"].dtype)
            scores[:, : self.beam_size] = state["scores"][running[part]]
            target, place = self._new(pool)
            base = part[target] * self.beam_size + (place - self.beam_size) // k
            scores[target, place] = problem.scores(pool[target, place], running[part[target]], bases, base)
            problem.count(running[part], torch.bincount(target, minlength=len(part)).cpu())
            self._keep(problem, state, running[part], pool, scores)
        changed = state["changed"][running] | (state["ids"][running] != beam).flatten(1).any(1)
        last = (number + 1) % length == 0
        state["changed"][running] = changed & (not last)
        exhausted = ~changed & (last and self.ends(problem))
        return Found.by(len(problem), running, state["ids"][running, 0], state["scores"][running, 0], exhausted)

    def _positions(self, problem: TokenProblem, number: int, running: Tensor) -> Tensor:
        """Where each target's prompts change, ``[running]``."""
        sweep, place = divmod(number, problem.length)
        if self.order == "random":
            orders = [
                torch.randperm(problem.length, generator=problem.generator(t, "order", sweep)) for t in running.tolist()
            ]
            return torch.stack(orders)[:, place].to(running.device)
        return torch.full_like(running, place if self.order == "forward" else problem.length - 1 - place)

    def _new(self, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Which prompts of a pool ``[target, prompt, length]`` are neither kept nor before in it, ``[new]`` each."""
        targets, size, length = pool.shape
        target = torch.arange(targets, device=pool.device).repeat_interleave(size)
        nothing = torch.zeros(0, dtype=torch.long, device=pool.device)
        first = Visited(length + 1, nothing).new(torch.cat([target.unsqueeze(1), pool.flatten(0, 1)], 1))
        first = first[first % size >= self.beam_size]
        return target[first], first % size

    def _keep(self, problem: TokenProblem, state: SearchState, own: Tensor, pool: Tensor, scores: Tensor) -> None:
        """Puts the best prompts of each target's pool into its beam; places that stay free hold its first prompt."""
        rows = torch.arange(len(own), device=own.device)
        for place in range(self.beam_size):
            best, score = problem.readable.best(pool, scores)
            state["ids"][own, place] = torch.where(score.isfinite().unsqueeze(1), pool[rows, best], pool[:, 0])
            state["scores"][own, place] = score
            scores[rows, best] = torch.inf
