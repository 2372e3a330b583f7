"""Readings of tasks whose targets' divergences are pooled: the score is that of the mean of exp(-divergence)."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.scoring.readings import Readings, SharedReadings
from lit_prompt.scoring.slots import Slots


@dataclass(frozen=True)
class _Pool:
    """The targets of a task, from its readings."""

    columns: Tensor  #: of targets over tokens
    log_weights: Tensor  #: of those
    answers: list[tuple[AnswerTree, float, Tensor]]  #: of the others tree, logarithm of the weight, columns

    @property
    def is_plain(self) -> bool:
        return not self.answers and len(self.columns) == 1

    def score(self, values: Float[Tensor, "*batch column"]) -> Float[Tensor, "*batch"]:
        """-ln of the weighted sum of exp(-divergence); differentiable."""
        parts = [self.log_weights.to(values) - values[..., self.columns.to(values.device)]]
        for tree, log_weight, columns in self.answers:
            parts.append((log_weight - tree.kl(values[..., columns.to(values.device)])).unsqueeze(-1))
        return -torch.cat(parts, -1).logsumexp(-1)


class PooledReadings(Readings):
    """As :class:`Readings`, but a task's score is -ln sum_t weight_t exp(-divergence_t)."""

    def __init__(self, slots: Slots, fluency: float) -> None:
        super().__init__(slots, fluency)
        self._pools = []
        for task, members in enumerate(slots.members):
            own = torch.tensor([i for i, c in enumerate(self._columns[task]) if c.kind == "target"], dtype=torch.long)
            weights = torch.tensor([member.weight for member in members if member.tree is None])
            cells = [(each.tree, float(torch.tensor(each.weight).log()), each.columns) for each in self._cells[task]]
            self._pools.append(_Pool(own, weights.log(), cells))

    @property
    def are_plain(self) -> bool:
        """Whether every task is a single target over tokens, whose divergence is its score."""
        return all(pool.is_plain for pool in self._pools)

    def scores(self, values: Float[Tensor, "prompt column"], tasks: Tensor) -> Float[Tensor, " prompt"]:
        """As of :meth:`Readings.scores`."""
        if self.are_plain:
            return values[:, 0]
        found = values.new_zeros(len(values))
        for task in tasks.unique().tolist():
            rows = (tasks == task).nonzero().flatten().to(values.device)
            found = found.index_add(0, rows, self._pools[task].score(values[rows]))
        return found

    def shared(self, group: Tensor) -> "SharedReadings":
        """As of :meth:`Readings.shared`."""
        found = super().shared(group)
        own = {field.name: getattr(found, field.name) for field in fields(found)}
        return _SharedPools(**own, pools=[self._pools[task] for task in self._slots.tasks[group].tolist()])


@dataclass(frozen=True)
class _SharedPools(SharedReadings):
    pools: list[_Pool]

    def scores(self, values: Float[Tensor, "prompt context column"]) -> Float[Tensor, "prompt slot"]:
        """As of :meth:`SharedReadings.scores`."""
        own = values.flatten(1)[:, self.index.to(values.device)]
        if all(pool.is_plain for pool in self.pools):
            return own[..., 0]
        return torch.stack([pool.score(own[:, place]) for place, pool in enumerate(self.pools)], 1)
