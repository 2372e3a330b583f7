"""The best prompt that a search has seen for each of its problems, and why each stopped."""

from enum import IntEnum
from typing import Any

import torch
from torch import Tensor


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


class BestSoFar:
    """Best-so-far of a chunk of independent searches, each with its own stop.

    Args:
        prompts: where the searches start, ``[slot, ...]``; only its shape, dtype and device are used.
        kl_tolerance: a search ends when its KL is at most this many nats.
        patience: a search ends after this many steps without a better KL; None for never.
        max_forward_passes: a search ends when it has used as many; None for no limit.
        max_seconds: a search ends when its share of the wall-clock time is as long; None for no limit.

    Attributes:
        kl: best KL in nats, ``[slot]``, float32; ``inf`` before the first step.
        prompts: the prompts that had it, ``[slot, ...]``.
        steps: steps that each search has made, ``[slot]``.
        forward_passes: forward passes of the LM that each search has used, ``[slot]``.
        seconds: each search's share of the wall-clock time, ``[slot]``, float64, on CPU.
        reason: :class:`StopReason` of each, ``[slot]``.
    """

    _TENSORS = ("kl", "prompts", "steps", "forward_passes", "stale", "reason", "seconds")

    def __init__(
        self,
        prompts: Tensor,
        kl_tolerance: float,
        patience: int | None,
        max_forward_passes: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        slots, device = prompts.shape[0], prompts.device
        self.kl_tolerance = kl_tolerance
        self.patience = patience
        self.max_forward_passes = max_forward_passes
        self.max_seconds = max_seconds
        self.kl = torch.full((slots,), torch.inf, device=device)
        self.prompts = torch.zeros_like(prompts)
        self.steps = torch.zeros(slots, dtype=torch.long, device=device)
        self.forward_passes = torch.zeros_like(self.steps)
        self.stale = torch.zeros_like(self.steps)
        self.reason = torch.full_like(self.steps, StopReason.RUNNING)
        self.seconds = torch.zeros(slots, dtype=torch.float64)

    @property
    def running(self) -> Tensor:
        """Which searches go on, ``[slot]``, bool."""
        return self.reason == StopReason.RUNNING

    def observe(self, kl: Tensor, prompts: Tensor, forward_passes: Tensor | None = None, missing: bool = False) -> None:
        """Takes in the KL of one prompt for every search; searches that have ended are left as they are.

        Args:
            kl: nats, ``[slot]``.
            prompts: the prompts that gave it, ``[slot, ...]``.
            forward_passes: how many it took, ``[slot]``; one each by default.
            missing: an infinite KL stands for a step that has found nothing, which ends no search.
        """
        running = self.running
        finite = kl.isfinite()
        better = running & finite & (kl < self.kl)
        self.kl = torch.where(better, kl, self.kl)
        self.prompts = torch.where(better.view(-1, *[1] * (prompts.dim() - 1)), prompts, self.prompts)
        self.forward_passes += running if forward_passes is None else forward_passes
        self.stale = torch.where(better, 0, self.stale + 1)
        if self.patience is not None:
            self._stop(running & (self.stale >= self.patience), StopReason.PATIENCE)
        self._stop(running & (self.kl <= self.kl_tolerance), StopReason.KL_TOLERANCE)
        if not missing:
            self._stop(running & ~finite, StopReason.NOT_FINITE)

    def spend(self, seconds: Tensor) -> None:
        """Adds to the searches' time, and ends those that have used up a budget.

        Args:
            seconds: ``[slot]``, float64, on CPU.
        """
        self.seconds += seconds
        if self.max_forward_passes is not None:
            self._stop(self.running & (self.forward_passes >= self.max_forward_passes), StopReason.FORWARD_PASSES)
        if self.max_seconds is not None:
            late = (self.seconds >= self.max_seconds).to(self.reason.device)
            self._stop(self.running & late, StopReason.SECONDS)

    def exhaust(self, which: Tensor) -> None:
        """Ends the searches that have nothing left to try, ``[slot]``, bool."""
        self._stop(self.running & which, StopReason.EXHAUSTED)

    def finish(self) -> None:
        """Ends the searches that still run: their steps are used up."""
        self._stop(self.running, StopReason.STEPS)

    def end(self, which: Tensor, reason: StopReason) -> None:
        """Ends those of some searches ``[slot]`` that still run."""
        self._stop(self.running & which, reason)

    def _stop(self, which: Tensor, reason: StopReason) -> None:
        self.reason = torch.where(which, int(reason), self.reason)

    def to(self, device: torch.device) -> None:
        """Moves everything but the seconds to a device."""
        for name in self._TENSORS:
            if name != "seconds":
                setattr(self, name, getattr(self, name).to(device))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs."""
        return {name: getattr(self, name) for name in self._TENSORS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        for name in self._TENSORS:
            setattr(self, name, state[name].to(getattr(self, name).device))
