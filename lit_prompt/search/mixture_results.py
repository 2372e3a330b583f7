"""The mixtures that a search has found for every target, kept on the CPU and in checkpoints."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.search.best_mixtures import BestMixtures
from lit_prompt.search.best_so_far import BestSoFar
from lit_prompt.search.search_results import SearchResults


class MixtureResults(SearchResults):
    """As :class:`SearchResults`; ``prompts`` are ``[target, restart, component, ...]``."""

    def __init__(
        self,
        targets: int,
        restarts: int,
        components: int,
        prompt_shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(targets, restarts, (components, *prompt_shape), dtype)
        #: of each component, 0 for one that has left and where none is
        self.weights = torch.zeros(targets, restarts, components, dtype=torch.float64)
        #: components, those that have left included, ``[target, restart]``
        self.counts = torch.zeros(targets, restarts, dtype=torch.long)

    def put(self, index: Sequence[int], best: BestSoFar) -> None:
        """As of :meth:`SearchResults.put`."""
        assert isinstance(best, BestMixtures)
        super().put(index, best)
        rows, shape = torch.tensor(list(index)), (len(index), self.kl.shape[1])
        self.weights[rows] = best.weights[: len(index) * shape[1]].unflatten(0, shape)
        self.counts[rows] = best.counts[: len(index) * shape[1]].unflatten(0, shape)

    def mixture(self, target: int, restart: int) -> tuple[Tensor, Tensor]:
        """The components of a mixture ``[component, ...]``, those that have left included, and their weights."""
        count = int(self.counts[target, restart])
        return self.prompts[target, restart, :count], self.weights[target, restart, :count]

    def drawn(self, target: int, restart: int) -> tuple[Tensor, Tensor]:
        """As of :meth:`mixture`, of those that have a weight, the largest first."""
        prompts, weights = self.mixture(target, restart)
        order = weights.argsort(descending=True)[: int((weights > 0).sum())]
        return prompts[order], weights[order]
