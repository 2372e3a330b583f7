"""The best prompt that a search has seen for each of its problems, and why each stopped."""

from enum import IntEnum

import torch
from torch import Tensor, nn


class StopReason(IntEnum):
    """Why the search for a target ended; the names in lower case stand in the results."""

    NOT_SEARCHED = 0
    RUNNING = 1
    STEPS = 2
    KL_TOLERANCE = 3
    PATIENCE = 4
    NOT_FINITE = 5
    FORWARD_PASSES = 6
    SECONDS = 7
    EXHAUSTED = 8
    LIFT = 9
    BUDGET = 10


class BestSoFar(nn.Module):
    """The bests of a chunk of independent searches, each with its own end; its buffers are all a resume needs.

    A search ends when its KL (or whatever is minimised) is at most ``kl_tolerance`` nats, after ``patience`` steps
    without a better one, or when it has used up its forward passes or its seconds; None is no limit. The best prompt
    seen again is no better one, whatever its last digits are then. Of ``prompts``, ``[slot, ...]``, only shape, dtype
    and device are used.
    """

    kl: Tensor  #: best KL in nats, ``[slot]``, float32; ``inf`` before the first step
    prompts: Tensor  #: the prompts that had it, ``[slot, ...]``
    steps: Tensor  #: steps made, ``[slot]``
    forward_passes: Tensor  #: forward passes of the LM, ``[slot]``
    stale: Tensor  #: steps since the best KL was found, ``[slot]``
    seconds: Tensor  #: share of the wall-clock time, ``[slot]``, float32
    reason: Tensor  #: :class:`StopReason`, ``[slot]``

    def __init__(
        self,
        prompts: Tensor,
        kl_tolerance: float,
        patience: int | None,
        max_forward_passes: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_forward_passes = max_forward_passes
        self.max_seconds = max_seconds
        slots, device = prompts.shape[0], prompts.device
        self.register_buffer("prompts", torch.zeros_like(prompts))
        for name in ("kl", "seconds"):
            self.register_buffer(name, torch.zeros(slots, device=device))
        for name in ("steps", "forward_passes", "stale", "reason"):
            self.register_buffer(name, torch.zeros(slots, dtype=torch.long, device=device))
        self.reset(slots)

    def reset(self, slots: int) -> None:
        """Restarts the first ``slots`` searches; the others are unused."""
        for buffer in self.buffers():
            buffer.zero_()
        self.kl.fill_(torch.inf)
        self.reason[:slots] = int(StopReason.RUNNING)

    @property
    def running(self) -> Tensor:
        """Which searches go on, ``[slot]``, bool."""
        return self.reason == StopReason.RUNNING

    def observe(self, kl: Tensor, prompts: Tensor, forward_passes: Tensor, missing: Tensor | bool = False) -> None:
        """Takes in the KL (nats, ``[slot]``) of one prompt for every search, and the passes ``[slot]`` it took.

        Searches that have ended are left as they are. Where ``missing`` (``[slot]``, or for all) is true, an
        infinite KL stands for a step that found nothing, which ends no search.
        """
        running = self.running
        finite = kl.isfinite()
        another = (prompts != self.prompts).unsqueeze(-1).flatten(1).any(1) | self.kl.isinf()
        better = running & finite & (kl < self.kl) & another
        self.kl = torch.where(better, kl, self.kl)
        self.prompts = torch.where(better.view(-1, *[1] * (prompts.dim() - 1)), prompts, self.prompts)
        self.forward_passes = self.forward_passes + forward_passes * running
        self.stale = torch.where(better, 0, self.stale + 1)
        if self.patience is not None:
            self._stop(running & (self.stale >= self.patience), StopReason.PATIENCE)
        self._stop(running & (self.kl <= self.kl_tolerance), StopReason.KL_TOLERANCE)
        if missing is not True:
            failed = running & ~finite
            self._stop(failed if missing is False else failed & ~missing, StopReason.NOT_FINITE)

    def spend(self, which: Tensor, seconds: float) -> None:
        """Divides time evenly between some searches (``[slot]``, bool), and ends those that have used up a budget."""
        self.seconds = self.seconds + which * (seconds / which.sum().clamp_min(1))
        if self.max_forward_passes is not None:
            self._stop(self.running & (self.forward_passes >= self.max_forward_passes), StopReason.FORWARD_PASSES)
        if self.max_seconds is not None:
            self._stop(self.running & (self.seconds >= self.max_seconds), StopReason.SECONDS)

    def finish(self) -> None:
        """Ends the searches that still run: their steps are used up."""
        self._stop(self.running, StopReason.STEPS)

    def end(self, which: Tensor, reason: StopReason) -> None:
        """Ends those of some searches ``[slot]`` that still run."""
        self._stop(self.running & which, reason)

    def _stop(self, which: Tensor, reason: StopReason) -> None:
        self.reason = torch.where(which, int(reason), self.reason)
