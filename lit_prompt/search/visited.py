"""Which token sequences a search has scored already."""

from functools import cached_property

import torch
from torch import Tensor


class Visited:
    """Remembers token sequences of owners by a 63-bit hash (two of a million collide with a chance of 1e-7).

    Of each owner the last ones alone are remembered, so that a checkpoint does not grow with every step.

    Args:
        length: of the sequences.
        hashes: of the sequences known so far, ``[sequence]``, int64: owner by owner, in the order in which they came.
        counts: how many of them each owner has, ``[owner]``.
        most: how many of each owner are remembered, at least 1, ``[owner]``; the oldest are forgotten first.
    """

    def __init__(self, length: int, hashes: Tensor, counts: Tensor, most: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self._odd = torch.randint(2**62, (length + 1,), generator=generator) * 2 + 1
        self.hashes = hashes
        self.counts = counts
        self._most = most.tolist()

    def new(self, ids: Tensor, owner: Tensor) -> Tensor:
        """Positions of the sequences ``[sequence, length]`` that their owner has not seen, each once, in their order.

        They are remembered. ``owner`` is that of each, ``[sequence]``.
        """
        hashes = self._hash(ids, owner)
        ordered, order = hashes.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        first &= ~self._knows(ordered)
        found = order[first].sort().values
        self._remember(hashes[found], owner[found])
        return found

    def known(self, ids: Tensor, owner: Tensor) -> Tensor:
        """Which of the sequences ``[sequence, length]`` their owner, ``[sequence]``, has seen, ``[sequence]``, bool."""
        return self._knows(self._hash(ids, owner))

    def _hash(self, ids: Tensor, owner: Tensor) -> Tensor:
        return _mixed((_mixed(torch.cat([ids, owner.unsqueeze(1)], 1) + 1) * self._odd).sum(1))

    @cached_property
    def _ordered(self) -> Tensor:
        return self.hashes.sort().values

    def _knows(self, hashes: Tensor) -> Tensor:
        if not len(self.hashes):
            return torch.zeros_like(hashes, dtype=torch.bool)
        place = torch.searchsorted(self._ordered, hashes).clamp_max(len(self.hashes) - 1)
        return self._ordered[place] == hashes

    def _remember(self, hashes: Tensor, owner: Tensor) -> None:
        added = torch.bincount(owner, minlength=len(self.counts))
        old = self.hashes.split(self.counts.tolist())
        new = hashes[owner.sort(stable=True).indices].split(added.tolist())
        kept = [torch.cat(parts)[-most:] for *parts, most in zip(old, new, self._most, strict=True)]
        self.hashes = torch.cat(kept)
        self.counts = torch.tensor([len(part) for part in kept])
        self.__dict__.pop("_ordered", None)


def _mixed(x: Tensor) -> Tensor:
    """Spreads the bits of int64 values (the finalizer of SplitMix64, with signed shifts)."""
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return x ^ (x >> 31)
