"""A metric kept overall and once for each group of items: per family, per entropy bin."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import ModuleList
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
        # two containers: groups must move with this module, and a label need not be a valid module name
        self._groups: dict[str, MetricCollection] = {}
        self._modules_of_groups = ModuleList()

    def update(self, log_p: Tensor, log_q: Tensor, labels: Sequence[Sequence[str]]) -> None:
        """Adds items ``[item, vocab]``, as each metric does; ``labels`` names all groups that each item belongs to."""
        self.overall.update(log_p, log_q)
        for label in sorted({label for item in labels for label in item}):
            if label not in self._groups:
                self._groups[label] = self.overall.clone().to(log_p.device)
                self._groups[label].reset()
                self._modules_of_groups.append(self._groups[label])
            rows = torch.tensor([i for i, item in enumerate(labels) if label in item], device=log_p.device)
            self._groups[label].update(log_p[rows], log_q[rows])

    def compute(self) -> dict[str, Tensor]:
        """Means by name (``kl``) and by group and name (``H02-03/kl``)."""
        result = dict(self.overall.compute())
        for label, group in self._groups.items():
            result |= {f"{label}/{name}": value for name, value in group.compute().items()}
        return result

    def forward(self, log_p: Tensor, log_q: Tensor, labels: Sequence[Sequence[str]]) -> None:
        """Same as :meth:`update`: the value of a single batch is of no use here."""
        self.update(log_p, log_q, labels)

    def reset(self) -> None:
        """Forgets all items and all labels."""
        super().reset()
        self.overall.reset()
        self._groups, self._modules_of_groups = {}, ModuleList()
