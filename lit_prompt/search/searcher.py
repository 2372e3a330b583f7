"""What every search for hard prompts has in common."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.search.token_problem import TokenProblem

#: Everything that a search carries from one step to the next; what a checkpoint needs for an exact resume.
SearchState = dict[str, Tensor]


class Found(NamedTuple):
    """What a step has found for each slot."""

    ids: Tensor  #: a prompt, ``[slot, length]``
    scores: Tensor  #: its score in nats, ``[slot]``; ``inf`` where the step has found none
    exhausted: Tensor  #: which slots have nothing left to try, ``[slot]``, bool

    @classmethod
    def of(cls, slots: int, running: Tensor, ids: Tensor, scores: Tensor, exhausted: Tensor | None = None) -> "Found":
        """What was found for the running slots ``[running, ...]``, among all."""
        all_ids = ids.new_zeros(slots, ids.shape[1]).index_copy(0, running, ids)
        all_scores = scores.new_full((slots,), torch.inf).index_copy(0, running, scores)
        done = torch.zeros(slots, dtype=torch.bool)
        if exhausted is not None:
            done[running] = exhausted
        return cls(all_ids, all_scores, done)


class Searcher(ABC):
    """An algorithm that searches token prompts, for all slots of a problem at once.

    An instance holds settings alone; what changes is in the state that :meth:`init` makes. Random numbers come from
    :meth:`TokenProblem.generator`, so that they follow from slot and step, and a resumed search draws the same ones.
    Ids, scores and slots are on the CPU; only what goes through the LM, or is as large as its vocabulary, is not. So a
    step waits for the device a few times, however many slots there are.
    """

    #: Name of the algorithm in results, tables and plots.
    method: str
    #: Whether what is found for a slot may depend on those of its group.
    shares = False
    #: Entries of the state that are on the LM's device.
    on_device: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Plain values that define the search."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def require_at_least(self, **least: float) -> None:
        """Raises InputError if one of the named settings is less than it may be, or not finite."""
        for name, limit in least.items():
            if not limit <= (value := getattr(self, name)) < float("inf"):
                raise InputError(f"model.searcher {name} is {value}; it must be at least {limit}")

    @abstractmethod
    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The state that a search begins with, from a start for each slot, ``[slot, length]``.

        The starts' scores, ``[slot]``, are in nats; ``inf`` where a start does not survive as text.
        """

    def offer(self, state: SearchState, ids: Tensor, scores: Tensor) -> None:  # noqa: B027
        """Takes in what else a search might have started from, ``[slot, start, length]``; most searches need none.

        Scores are in nats, ``[slot, start]``; those of starts that do not survive as text are finite, too.
        """

    @abstractmethod
    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Makes a step, numbered from 0, for the running slots (``[running]``, rising); changes the state in place."""
