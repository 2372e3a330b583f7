"""What every search for hard prompts has in common."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.search.token_problem import TokenProblem

#: Everything that a search carries from one step to the next; what a checkpoint needs for an exact resume.
SearchState = dict[str, Tensor]


def require_at_least(**limits: tuple[float, float]) -> None:
    """Checks settings of a searcher, each given as its value and the least that it may be.

    Raises:
        InputError: if one is less, or not finite.
    """
    for name, (value, least) in limits.items():
        if not least <= value < float("inf"):
            raise InputError(f"model.searcher {name} is {value}; it must be at least {least}")


class Found(NamedTuple):
    """What a step has found for each target.

    Attributes:
        ids: a prompt, ``[target, length]``.
        scores: its score in nats, ``[target]``; ``inf`` where the step has found none.
        exhausted: which targets have nothing left to try, ``[target]``, bool.
    """

    ids: Tensor
    scores: Tensor
    exhausted: Tensor

    @classmethod
    def by(cls, targets: int, running: Tensor, ids: Tensor, scores: Tensor, exhausted: Tensor | None = None) -> "Found":
        """What was found for the running targets ``[running, ...]``, among all."""
        all_ids = ids.new_zeros(targets, ids.shape[1])
        all_ids[running] = ids
        all_scores = scores.new_full((targets,), torch.inf)
        all_scores[running] = scores
        done = torch.zeros(targets, dtype=torch.bool, device=ids.device)
        if exhausted is not None:
            done[running] = exhausted
        return cls(all_ids, all_scores, done)


class Searcher(ABC):
    """An algorithm that searches token prompts, for all targets of a problem at once.

    An instance holds settings alone; what changes is in the state that :meth:`begin` makes. Random numbers come from
    :meth:`TokenProblem.generator`, so that they follow from target and step, and a resumed search draws the same ones.
    """

    #: Name of the algorithm in results, tables and plots.
    method: str
    #: Whether what is found for a target may depend on the targets it is searched with.
    shares = False

    def settings(self) -> dict[str, Any]:
        """Plain values that define the search."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @abstractmethod
    def begin(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """Makes the state that a search starts with.

        Args:
            problem: the targets.
            ids: a start for each, ``[target, length]``.
            scores: its score in nats, ``[target]``; ``inf`` where it does not survive as text.
        """

    @abstractmethod
    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Searches on, for the targets that still run; changes the state in place.

        Args:
            problem: the targets.
            state: of the search.
            number: of the step, from 0.
            running: positions of the targets that still run, ``[running]``, rising.
        """
