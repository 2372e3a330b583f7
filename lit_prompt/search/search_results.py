"""What a search has found for every target, kept on the CPU and in checkpoints."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.search.best_so_far import BestSoFar, StopReason


class SearchResults:
    """The best prompt of every target and restart; steps, passes and seconds are summed over restarts, ``[target]``.

    ``prompt_shape`` and ``dtype`` are those of one prompt.
    """

    def __init__(
        self, targets: int, restarts: int, prompt_shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> None:
        self.kl = torch.full((targets, restarts), torch.inf)  #: best KL in nats; ``inf`` where none was searched
        self.prompts = torch.zeros(targets, restarts, *prompt_shape, dtype=dtype)  #: the prompts that had it
        self.steps = torch.zeros(targets, dtype=torch.long)
        self.forward_passes = torch.zeros(targets, dtype=torch.long)  #: of the LM
        self.seconds = torch.zeros(targets, dtype=torch.float64)  #: share of the wall-clock time
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
        """Stores the results of the targets at some positions, the restarts of a target side by side in ``best``."""
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

    def place(self, index: Sequence[int], state: dict[str, Any]) -> None:
        """Stores the :meth:`state_dict` of the results of the targets at some positions."""
        rows = torch.tensor(list(index))
        for name, value in vars(self).items():
            value[rows] = state[name]

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors."""
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "SearchResults":
        """The results that gave this :meth:`state_dict`."""
        prompts = state["prompts"]
        results = cls(prompts.shape[0], prompts.shape[1], prompts.shape[2:], prompts.dtype)
        for name in vars(results):
            setattr(results, name, state[name].clone())
        return results
