"""The best score so far against the steps of a search."""

from typing import Any

import torch
from torch import Tensor

_POINTS = 200


class ScoreCurve:
    """The best score so far of each task of a chunk, at some two hundred steps of its search.

    Args:
        tasks: how many.
        steps: of the search.

    Attributes:
        stride: steps from one point to the next.
        points: nats, ``[task, point]``; NaN where the search has not come to.
    """

    def __init__(self, tasks: int, steps: int) -> None:
        self.stride = max(1, steps // _POINTS)
        self.points = torch.full((tasks, -(-steps // self.stride)), torch.nan)

    def record(self, step: int, score: Tensor) -> None:
        """Takes in the scores ``[task]`` after a step, which hold for the steps that a chunk may not need."""
        if step % self.stride == 0:
            self.points[:, step // self.stride :] = score.to(self.points).unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """Points, and how far they are apart."""
        return {"stride": self.stride, "points": self.points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`, which may be of a search of fewer steps."""
        points = state["points"]
        every = torch.arange(self.points.shape[1]) * self.stride // state["stride"]
        known = every < points.shape[1]
        self.points[:, known] = points[:, every[known]]
