"""Keys and values of prompts whose beginnings are gone on with in many ways."""

from typing import Any

from torch import Tensor


class PrefixCache:
    """Keys and values of some token sequences, of which any beginning can be gone on with.

    Args:
        layers: keys and values of each layer, ``[sequence, head, position, size]``.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    @classmethod
    def of(cls, cache: Any) -> "PrefixCache":
        """Takes over what a forward pass has left in a ``transformers`` cache."""
        return cls([(layer.keys, layer.values) for layer in cache.layers])

    def bytes_per_position(self) -> int:
        """Memory of one position of one sequence."""
        return sum(x[0, :, 0].numel() * x.element_size() for layer in self._layers for x in layer)

    def beginnings(self, sequences: Tensor, positions: int) -> Any:
        """The first positions of some sequences as a cache that a forward pass goes on with.

        Args:
            sequences: which ones, repetitions allowed, ``[item]``.
            positions: how many positions of each.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._layers):
            cache.update(keys[sequences, :, :positions], values[sequences, :, :positions], number)
        return cache
