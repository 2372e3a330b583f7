"""A metric kept overall and once for each group of items: per family, per entropy bin."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import ModuleDict
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric


def entropy_bin(entropy: float) -> str:
    """The one-nat bin that an entropy in nats falls into.

    >>> entropy_bin(2.7)
    'H02-03'
    """
    low = math.floor(max(entropy, 0.0) + 1e-9)
    return f"H{low:02d}-{low + 1:02d}"


class GroupedMetrics(WrapperMetric):
    """A collection of (log p, log q) metrics, overall and, cloned, per label."""

    def __init__(self, metrics: MetricCollection) -> None:
        super().__init__()
        self.overall = metrics
        self.groups = ModuleDict()
        # a label may be anything, a module's name may hold no dot and be no method of ModuleDict
        self._keys: dict[str, str] = {}

    def update(self, log_p: Tensor, log_q: Tensor, labels: Sequence[Sequence[str]]) -> None:
        """Adds items.

        Args:
            log_p: log of the targets, ``[item, vocab]``.
            log_q: log of the reached distributions, ``[item, vocab]``.
            labels: for each item the labels of all groups it belongs to.
        """
        self.overall.update(log_p, log_q)
        for label in sorted({label for item in labels for label in item}):
            if label not in self._keys:
                new = self.overall.clone().to(log_p.device)
                new.reset()
                self._keys[label] = f"group{len(self._keys)}"
                self.groups[self._keys[label]] = new
            rows = torch.tensor([i for i, item in enumerate(labels) if label in item], device=log_p.device)
            group: Any = self.groups[self._keys[label]]
            group.update(log_p[rows], log_q[rows])

    def compute(self) -> dict[str, Tensor]:
        """Means by name (``kl``) and by group and name (``H02-03/kl``)."""
        result = dict(self.overall.compute())
        for label, key in self._keys.items():
            group: Any = self.groups[key]
            result |= {f"{label}/{name}": value for name, value in group.compute().items()}
        return result

    def forward(self, log_p: Tensor, log_q: Tensor, labels: Sequence[Sequence[str]]) -> None:
        """Same as :meth:`update`: the value of a single batch is of no use here."""
        self.update(log_p, log_q, labels)

    def reset(self) -> None:
        """Forgets all items and all labels."""
        super().reset()
        self.overall.reset()
        self.groups = ModuleDict()
        self._keys = {}
