"""Keys and values of prompts whose beginnings are continued in many ways."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class PrefixCache:
    """Keys and values of some token sequences, of which any beginning can be continued.

    Those of each layer are ``[sequence, head, position, size]``.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    @classmethod
    def joined(cls, parts: Sequence["PrefixCache"]) -> "PrefixCache":
        """The sequences of several caches, one after the other."""
        if len(parts) == 1:
            return parts[0]
        by_layer = zip(*(part._layers for part in parts), strict=True)
        return cls([(torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in by_layer])

    @property
    def length(self) -> int:
        """Positions of a sequence."""
        return int(self._layers[0][0].shape[2])

    def bytes_per_position(self) -> int:
        """Memory of one position of one sequence."""
        return sum(x[0, :, 0].numel() * x.element_size() for layer in self._layers for x in layer)

    def beginnings(self, sequences: Tensor, positions: int) -> Any:
        """The first positions of some sequences ``[item]``, repetitions allowed, as a cache that a pass extends."""
        from transformers import DynamicCache

        cache = DynamicCache()
        sequences = sequences.to(self._layers[0][0].device)
        for number, (keys, values) in enumerate(self._layers):
            cache.update(keys[sequences, :, :positions], values[sequences, :, :positions], number)
        return cache
