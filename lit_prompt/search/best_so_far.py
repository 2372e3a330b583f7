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
    LIFT = 6


class BestSoFar:
    """Best-so-far of a chunk of independent searches, each with its own stop.

    Args:
        prompts: where the searches start, ``[slot, ...]``; only its shape, dtype and device are used.
        kl_tolerance: a search ends when its KL is at most this many nats.
        patience: a search ends after this many steps without a better KL; None for never.

    Attributes:
        kl: best KL in nats, ``[slot]``, float32; ``inf`` before the first step.
        prompts: the prompts that had it, ``[slot, ...]``.
        steps: steps that each search has made, ``[slot]``.
        forward_passes: forward passes of the LM that each search has used, ``[slot]``.
        seconds: each search's share of the wall-clock time, ``[slot]``, float64, on CPU.
        reason: :class:`StopReason` of each, ``[slot]``.
    """

    _TENSORS = ("kl", "prompts", "steps", "forward_passes", "stale", "reason", "seconds")

    def __init__(self, prompts: Tensor, kl_tolerance: float, patience: int | None) -> None:
        slots, device = prompts.shape[0], prompts.device
        self.kl_tolerance = kl_tolerance
        self.patience = patience
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

    def observe(self, kl: Tensor, prompts: Tensor) -> None:
        """Takes in the KL of one prompt for every search; searches that have ended are left as they are.

        Args:
            kl: nats, ``[slot]``.
            prompts: the prompts that gave it, ``[slot, ...]``.
        """
        running = self.running
        finite = kl.isfinite()
        better = running & finite & (kl < self.kl)
        self.kl = torch.where(better, kl, self.kl)
        self.prompts = torch.where(better.view(-1, *[1] * (prompts.dim() - 1)), prompts, self.prompts)
        self.forward_passes += running
        self.stale = torch.where(better, 0, self.stale + 1)
        if self.patience is not None:
            self._stop(running & (self.stale >= self.patience), StopReason.PATIENCE)
        self._stop(running & (self.kl <= self.kl_tolerance), StopReason.KL_TOLERANCE)
        self._stop(running & ~finite, StopReason.NOT_FINITE)

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
