"""The best prompts that a search has scored for each slot, whatever it goes on with."""

import torch
from torch import Tensor

from lit_prompt.search.elites import kept_elites


class KeptCandidates:
    """Keeps different prompts of the least scores, ``count`` for each of some slots, ``length`` tokens each.

    Attributes:
        ids: ``[slot, place, length]``.
        scores: nats, ``[slot, place]``, rising; ``inf`` for a place that is free.
    """

    def __init__(self, slots: int, count: int, length: int) -> None:
        self.ids = torch.zeros(slots, count, length, dtype=torch.long)
        self.scores = torch.full((slots, count), torch.inf)

    def take(self, ids: Tensor, scores: Tensor, slots: Tensor) -> None:
        """Takes in prompts ``[row, prompt, length]`` with finite or infinite scores, of the slots ``[row]``."""
        self.ids[slots], self.scores[slots] = kept_elites(self.ids[slots], self.scores[slots], ids, scores)

    def state_dict(self) -> dict[str, Tensor]:
        """All that is kept."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from :meth:`state_dict`."""
        self.ids, self.scores = state["ids"].clone(), state["scores"].clone()
