"""The search of a chunk of targets, step by step."""

import time
from typing import Any

import torch
from torch import Tensor

from lit_prompt.interruption import Interrupted, interruptible
from lit_prompt.search.best_so_far import BestSoFar, StopReason
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem


class ChunkSearch:
    """Drives a searcher over the slots of a chunk, and keeps the best prompt of each in ``best``, on the CPU."""

    def __init__(self, searcher: Searcher, problem: TokenProblem, best: BestSoFar) -> None:
        self._searcher = searcher
        self._problem = problem
        self._state: SearchState = {}
        self._steps = 0
        self.best = best

    def init(self, ids: Tensor, scores: Tensor, seconds: float) -> None:
        """Begins with a start for each slot, ``[slot, length]``, or the best of several, ``[slot, start, length]``.

        Their scores are in nats, ``[slot]`` or ``[slot, start]``; ``seconds`` were spent on them.
        """
        if ids.dim() == 2:
            ids, scores = ids.unsqueeze(1), scores.unsqueeze(1)
        slots = torch.arange(len(ids))
        first, readable = self._problem.readable.best(ids, scores, slots)
        begun = ids[slots, first]
        self._state = self._searcher.init(self._problem, begun, readable)
        self._searcher.offer(self._state, ids, scores)
        self._observe(Found.of(len(ids), slots, begun, readable), self.best.running, seconds)

    def step(self) -> None:
        """A step of all searches that still run; one that a signal cuts leaves no trace."""
        started = time.perf_counter()
        running = self.best.running
        before = {name: value.clone() for name, value in self._state.items()}
        try:
            with interruptible():
                found = self._searcher.step(self._problem, self._state, self._steps, running.nonzero().flatten())
        except Interrupted:
            self._state = before
            raise
        self.best.steps += running
        self._steps += 1
        self._observe(found, running, time.perf_counter() - started)

    def _observe(self, found: Found, took_part: Tensor, seconds: float) -> None:
        passes = self._problem.take_passes()
        self.best.observe(found.scores.to(self.best.kl), found.ids, passes, missing=True)
        self.best.end(found.exhausted, StopReason.EXHAUSTED)
        self.best.spend(took_part, seconds)

    def release(self) -> None:
        """Drops what only more steps would need."""
        self._problem.release()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume."""
        return {"state": self._state, "steps": self._steps, "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from :meth:`state_dict`."""
        self._steps = state["steps"]
        device = self._problem.device
        self._state = {
            name: value.to(device if name in self._searcher.on_device else "cpu")
            for name, value in state["state"].items()
        }
        self.best.load_state_dict(state["best"])
