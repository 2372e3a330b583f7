"""What a search has found for every target, kept on the CPU and in checkpoints."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.best_so_far import BestSoFar, StopReason


class SearchResults:
    """The best prompt of every target and restart.

    Args:
        targets: number of targets.
        restarts: searches for each target.
        prompt_shape: shape of one prompt.
        dtype: dtype of a prompt (float32 for embeddings).

    Attributes:
        kl: best KL in nats that the search saw, ``[target, restart]``; ``inf`` where none was searched.
        prompts: the prompts that had it, ``[target, restart, *prompt_shape]``.
        steps: steps, ``[target]``, over all restarts.
        forward_passes: forward passes of the LM, ``[target]``, over all restarts.
        seconds: share of the wall-clock time, ``[target]``, over all restarts.
        reason: :class:`StopReason`, ``[target, restart]``.
    """

    _TENSORS = ("kl", "prompts", "steps", "forward_passes", "seconds", "reason")

    def __init__(
        self, targets: int, restarts: int, prompt_shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> None:
        self.kl = torch.full((targets, restarts), torch.inf)
        self.prompts = torch.zeros(targets, restarts, *prompt_shape, dtype=dtype)
        self.steps = torch.zeros(targets, dtype=torch.long)
        self.forward_passes = torch.zeros(targets, dtype=torch.long)
        self.seconds = torch.zeros(targets, dtype=torch.float64)
        self.reason = torch.full((targets, restarts), int(StopReason.NOT_SEARCHED), dtype=torch.long)

    @property
    def searched(self) -> Tensor:
        """Which targets have a prompt, ``[target]``, bool."""
        return self.kl.isfinite().any(1)

    @property
    def ended(self) -> bool:
        """Whether every search has."""
        return not bool(torch.isin(self.reason, torch.tensor([StopReason.NOT_SEARCHED, StopReason.RUNNING])).any())

    @property
    def best_restart(self) -> Tensor:
        """The restart that did best in the search, ``[target]``."""
        return self.kl.argmin(1)

    def put(self, index: Sequence[int], best: BestSoFar) -> None:
        """Stores a chunk's results.

        Args:
            index: positions of the chunk's targets.
            best: their searches, the restarts of a target side by side.
        """
        count, restarts = len(index), self.kl.shape[1]

        def by_target(x: Tensor) -> Tensor:
            return x[: count * restarts].detach().cpu().unflatten(0, (count, restarts))

        rows = torch.tensor(list(index))
        self.kl[rows] = by_target(best.kl)
        self.prompts[rows] = by_target(best.prompts)
        self.reason[rows] = by_target(best.reason)
        self.steps[rows] = by_target(best.steps).sum(1)
        self.forward_passes[rows] = by_target(best.forward_passes).sum(1)
        self.seconds[rows] = double(by_target(best.seconds)).sum(1)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors."""
        return {name: getattr(self, name) for name in self._TENSORS}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "SearchResults":
        """The results that :meth:`state_dict` was taken of."""
        prompts = state["prompts"]
        results = cls(prompts.shape[0], prompts.shape[1], prompts.shape[2:], prompts.dtype)
        for name in cls._TENSORS:
            setattr(results, name, state[name].clone())
        return results
