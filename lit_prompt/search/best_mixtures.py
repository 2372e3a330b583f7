"""The mixture of prompts that a search has come to for each of its problems."""

import math

import torch
from torch import Tensor

from lit_prompt.search.best_so_far import BestSoFar, StopReason


class BestMixtures(BestSoFar):
    """As :class:`BestSoFar`, of mixtures of at most ``components`` prompts: ``prompts`` are ``[slot, component, ...]``.

    A search has as many rounds as components. In each one :class:`BestSoFar` is that of the round's own search; the
    steps, forward passes and seconds that both count are of all rounds, which share the budget evenly.
    """

    weights: Tensor  #: of each component, ``[slot, component]``, float64; 0 for one that has left, and where none is
    counts: Tensor  #: components so far, those that have left included, ``[slot]``

    def __init__(
        self,
        prompt: Tensor,
        components: int,
        kl_tolerance: float,
        patience: int | None,
        max_forward_passes: int | None,
        max_seconds: float | None,
    ) -> None:
        self.components = components
        mixtures = torch.zeros(len(prompt), components, *prompt.shape[1:], dtype=prompt.dtype)
        super().__init__(mixtures, kl_tolerance, patience, max_forward_passes, max_seconds)
        self.register_buffer("weights", torch.zeros(len(prompt), components, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(prompt), dtype=torch.long))

    def of_round(self, number: int, like: Tensor) -> BestSoFar:
        """The bests of a round that begins, with prompts like ``[slot, ...]``: what has ended takes no part in it."""
        share = (number + 1) / self.components
        passes = None if self.max_forward_passes is None else math.ceil(self.max_forward_passes * share)
        seconds = None if self.max_seconds is None else self.max_seconds * share
        # the gain of a component has no value at which it were good enough
        best = BestSoFar(like, self.kl_tolerance if number == 0 else -math.inf, self.patience, passes, seconds)
        for name in ("steps", "forward_passes", "seconds", "reason"):
            getattr(best, name).copy_(getattr(self, name))
        return best

    def follow(self, number: int, best: BestSoFar) -> None:
        """Takes over what a round's bests count and, in the first round, its prompts: mixtures of one component."""
        for name in ("steps", "forward_passes", "seconds"):
            getattr(self, name).copy_(getattr(best, name))
        if number == 0:
            self.kl.copy_(best.kl)
            self.prompts[:, 0] = best.prompts
            self.counts.copy_(best.kl.isfinite())
            self.weights[:, 0] = self.counts

    def end_round(self, number: int, best: BestSoFar) -> None:
        """Ends the searches that are good enough, have found no prompt or, in the last round, have ended in it."""
        self._stop(self.running & (self.kl <= self.kl_tolerance), StopReason.KL_TOLERANCE)
        over = (self.counts == 0) | (number + 1 == self.components)
        self.reason = torch.where(self.running & over, best.reason.to(self.reason), self.reason)
