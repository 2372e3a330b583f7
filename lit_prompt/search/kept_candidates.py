"""The best prompts that a search has scored for each slot, whatever it goes on with."""

import torch
from torch import Tensor


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
        count = self.ids.shape[1]
        rows = torch.arange(len(slots)).unsqueeze(1)
        best, places = (x[:, : 2 * count] for x in scores.to(self.scores).sort(dim=1, stable=True))
        pool = torch.cat([self.ids[slots], ids[rows, places]], 1)  # more than there are places, as some may be known
        of_pool = torch.cat([self.scores[slots], best], 1)
        same = (pool.unsqueeze(2) == pool.unsqueeze(1)).all(3) & of_pool.isfinite().unsqueeze(1)
        of_pool = of_pool.masked_fill(same.tril(-1).any(2), torch.inf)
        order = of_pool.sort(dim=1, stable=True).indices[:, :count]
        self.ids[slots], self.scores[slots] = pool[rows, order], of_pool.gather(1, order)

    def state_dict(self) -> dict[str, Tensor]:
        """All that is kept."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from :meth:`state_dict`."""
        self.ids, self.scores = state["ids"].clone(), state["scores"].clone()
