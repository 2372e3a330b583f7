"""Torchmetrics over :mod:`lit_prompt.functional.divergence`: means over items, in nats where a unit applies."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from lit_prompt.functional import (
    entropy,
    js_divergence,
    kl_divergence,
    reverse_kl_divergence,
    top_k_overlap,
    total_variation,
)


class MeanOverItems(Metric):
    """Mean over items of a function of (log p, log q); sums are kept in float64."""

    is_differentiable = True
    higher_is_better: bool | None = False
    full_state_update = False
    function: Callable[..., Tensor]
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, log_p: Tensor, log_q: Tensor) -> None:
        """Adds items: targets and reached distributions, log-probabilities or logits, ``[item, vocab]`` each."""
        values = self.function(log_p, log_q)
        self.total += values.sum(dtype=torch.float64)
        self.count += values.numel()

    def add(self, total: float, count: int) -> None:
        """Adds items of another process: their sum and number."""
        self.total += total
        self.count += count
        self._update_count += 1  # as after an update, a mean can be asked for, anew
        self._computed = None

    def compute(self) -> Tensor:
        """The mean, float64; NaN when no item was added."""
        return self.total / self.count

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        """Keeps the sums in float64 whatever dtype the owning module is given: only their device may change."""
        return super()._apply(lambda state: state.to(fn(state).device), exclude_state)


class KLDivergence(MeanOverItems):
    """Mean KL(p || q) in nats; p is the target, q what the LM gives.

    >>> import torch
    >>> metric = KLDivergence()
    >>> metric.update(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log())
    >>> round(metric.compute().item(), 4)
    0.6931
    """

    function = staticmethod(kl_divergence)


class ReverseKLDivergence(MeanOverItems):
    """Mean KL(q || p) in nats."""

    function = staticmethod(reverse_kl_divergence)


class JSDivergence(MeanOverItems):
    """Mean Jensen-Shannon divergence in nats."""

    function = staticmethod(js_divergence)


class TotalVariation(MeanOverItems):
    """Mean total variation distance, between 0 and 1."""

    function = staticmethod(total_variation)


class Entropy(MeanOverItems):
    """Mean entropy of the reached distributions q in nats; the targets are not looked at."""

    higher_is_better = None
    function = staticmethod(lambda log_p, log_q: entropy(log_q))


class TopKOverlap(MeanOverItems):
    """Mean share of the target's k most likely tokens that are among q's k most likely ones."""

    is_differentiable = False
    higher_is_better = True

    def __init__(self, k: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = partial(top_k_overlap, k=k)
