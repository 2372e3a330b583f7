"""A metric kept overall and once for each group of items: per family, per entropy bin."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Module, ModuleList
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from lit_prompt.metrics.divergence import MeanOverItems


def entropy_bin(entropy: float) -> str:
    """The one-nat bin that an entropy in nats falls into.

    >>> entropy_bin(2.7)
    'H02-03'
    """
    low = math.floor(max(entropy, 0.0) + 1e-9)
    return f"H{low:02d}-{low + 1:02d}"


def _sums(metric: Module) -> tuple[float, int]:
    assert isinstance(metric, MeanOverItems)
    return float(metric.total), int(metric.count)


class GroupedMetrics(WrapperMetric):
    """A collection of metrics of :mod:`lit_prompt.metrics.divergence`, overall and, cloned, per label."""

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
            rows = torch.tensor([i for i, item in enumerate(labels) if label in item], device=log_p.device)
            self._group(label).to(log_p.device).update(log_p[rows], log_q[rows])

    def sums(self) -> dict[str, dict[str, tuple[float, int]]]:
        """What means are made of, by group (empty for all items) and name: a sum and a number of items."""
        groups = {"": self.overall, **self._groups}
        return {label: {name: _sums(metric) for name, metric in group.items()} for label, group in groups.items()}

    def add(self, sums: Mapping[str, Mapping[str, tuple[float, int]]]) -> None:
        """Adds the items of another process, given its :meth:`sums`."""
        for label, values in sums.items():
            group = self._group(label) if label else self.overall
            for name, (total, count) in values.items():
                metric = group[name]
                assert isinstance(metric, MeanOverItems)
                metric.add(total, count)

    def _group(self, label: str) -> MetricCollection:
        if label not in self._groups:
            self._groups[label] = self.overall.clone()
            self._groups[label].reset()
            self._modules_of_groups.append(self._groups[label])
        return self._groups[label]

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
