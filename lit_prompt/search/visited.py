"""Which token sequences a search has scored already."""

import torch
from torch import Tensor


class Visited:
    """Remembers token sequences by a 63-bit hash (two of a million collide with a chance of 1e-7).

    It begins with the sorted hashes, ``[sequence]``, int64, of the sequences known so far.
    """

    def __init__(self, length: int, hashes: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self._odd = torch.randint(2**62, (length,), generator=generator) * 2 + 1
        self.hashes = hashes

    def new(self, ids: Tensor) -> Tensor:
        """Positions of the sequences ``[sequence, length]`` that were not seen before, each once, in their order.

        They are remembered.
        """
        ordered, order = self._hash(ids).sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        first &= ~self._knows(ordered)
        self.hashes = torch.cat([self.hashes, ordered[first]]).sort().values
        return order[first].sort().values

    def known(self, ids: Tensor) -> Tensor:
        """Which of the sequences ``[sequence, length]`` were seen before, ``[sequence]``, bool."""
        return self._knows(self._hash(ids))

    def _hash(self, ids: Tensor) -> Tensor:
        return _mixed((_mixed(ids + 1) * self._odd).sum(1))

    def _knows(self, hashes: Tensor) -> Tensor:
        if not len(self.hashes):
            return torch.zeros_like(hashes, dtype=torch.bool)
        place = torch.searchsorted(self.hashes, hashes).clamp_max(len(self.hashes) - 1)
        return self.hashes[place] == hashes


def _mixed(x: Tensor) -> Tensor:
    """Spreads the bits of int64 values (the finalizer of SplitMix64, with signed shifts)."""
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return x ^ (x >> 31)
