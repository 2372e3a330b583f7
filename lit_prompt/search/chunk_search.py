"""The search of a chunk of targets: one search for each context and restart, stepped together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.best_so_far import BestSoFar
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem


@dataclass(frozen=True)
class Part:
    """Targets of a chunk that are searched together.

    Attributes:
        problem: the targets.
        slots: where their results stand among the chunk's, ``[target]``.
    """

    problem: TokenProblem
    slots: Tensor


class ChunkSearch:
    """Drives a searcher over the parts of a chunk, and keeps the best of each target.

    Args:
        searcher: the algorithm.
        parts: the chunk's targets.
        best: the bests of all of the chunk's slots.
    """

    def __init__(self, searcher: Searcher, parts: Sequence[Part], best: BestSoFar) -> None:
        self._searcher = searcher
        self._parts = parts
        self._states: list[SearchState] = []
        self._steps = 0
        self.best = best

    def begin(self, starts: Sequence[tuple[Tensor, Tensor]], seconds: float) -> None:
        """Begins with a prompt for each target.

        Args:
            starts: of each part: ids ``[target, length]`` and their scores in nats ``[target]``.
            seconds: what it took to find them.
        """
        found: list[Found | None] = []
        for part, (ids, scores) in zip(self._parts, starts, strict=True):
            _, readable = part.problem.readable.best(ids.unsqueeze(1), scores.unsqueeze(1))
            self._states.append(self._searcher.begin(part.problem, ids, readable))
            found.append(Found.by(len(ids), torch.arange(len(ids), device=ids.device), ids, readable))
        self._observe(found, torch.ones_like(self.best.running), seconds)

    def step(self) -> None:
        """A step of all searches that still run."""
        started = time.perf_counter()
        running = self.best.running
        self.best.steps += running
        found: list[Found | None] = []
        for part, state in zip(self._parts, self._states, strict=True):
            own = running[part.slots].nonzero().flatten()
            found.append(self._searcher.step(part.problem, state, self._steps, own) if len(own) else None)
        self._steps += 1
        self._observe(found, running, time.perf_counter() - started)

    def _observe(self, found: Sequence[Found | None], took_part: Tensor, seconds: float) -> None:
        ids = torch.zeros_like(self.best.prompts)
        scores = torch.full_like(self.best.kl, torch.inf)
        passes, exhausted = torch.zeros_like(self.best.steps), torch.zeros_like(took_part)
        for part, own in zip(self._parts, found, strict=True):
            passes[part.slots] = part.problem.forward_passes.to(passes.device)
            part.problem.forward_passes.zero_()
            if own is not None:
                ids[part.slots], scores[part.slots] = own.ids, own.scores.to(scores)
                exhausted[part.slots] = own.exhausted
        self.best.observe(scores, ids, passes, missing=True)
        self.best.exhaust(exhausted)
        self.best.spend(double(took_part) / max(int(took_part.sum()), 1) * seconds)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs beside the bests."""
        return {"states": self._states, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._steps = state["steps"]
        self._states = [
            {name: value.to(part.problem.device) for name, value in saved.items()}
            for part, saved in zip(self._parts, state["states"], strict=True)
        ]
