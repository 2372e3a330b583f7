"""Token sequences that go on from cached beginnings, several in a row of a pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Ends of token sequences, laid one after the other in rows; each sees its own beginning and itself alone.

    All are on the CPU.
    """

    ids: Int[Tensor, "row position"]  #: tokens; any where a row is not filled
    places: Int[Tensor, "row position"]  #: position of each token in its sequence, padding left out
    begin: Int[Tensor, "row position"]  #: how many cached positions stand before each token's own ones
    holds: Int[Tensor, "row position"]  #: the sequence that each is of; -1 where a row is not filled
    cached: Int[Tensor, " row"]  #: the cached sequence that all of a row begin with
    mask: Bool[Tensor, "row cached"]  #: which of its positions are not padding
    items: Int[Tensor, " item"]  #: numbers of the sequences
    row: Int[Tensor, " item"]  #: the row of each, rising
    end: Int[Tensor, " item"]  #: where it ends there

    @classmethod
    def of(
        cls,
        ids: Int[Tensor, "item position"],
        begin: Int[Tensor, " item"],
        cached: Int[Tensor, " item"],
        capacity: Int[Tensor, " item"],
        mask: Bool[Tensor, "item position"] | None = None,
    ) -> "Packed":
        """Packs token sequences, of which the first tokens are cached.

        A row's items follow from those with the same cached sequence alone.

        Args:
            ids: whole sequences.
            begin: where each one's own tokens begin.
            cached: the cached sequence that it begins with.
            capacity: positions that a row may fill, the same for all that begin alike, and at least an item's own;
                rows have as many as the largest.
            mask: which positions are not padding on the left; None where none is.
        """
        items, width = ids.shape
        sizes = width - begin
        fills: list[tuple[int, list[int]]] = []
        for number in cached.unique().tolist():
            mine = (cached == number).nonzero().flatten()
            for own in filled(sizes[mine].tolist(), int(capacity[mine[0]])):
                fills.append((number, mine[own].tolist()))
        order = torch.tensor([item for _, own in fills for item in own])
        counts = torch.tensor([len(own) for _, own in fills])
        row = torch.arange(len(fills)).repeat_interleave(counts)
        after = sizes[order].cumsum(0)
        first = after - sizes[order]
        first = first - first[counts.cumsum(0) - counts][row]  # in its row

        token = torch.arange(items).repeat_interleave(sizes[order])  # the place in the order of each token's item
        step = torch.arange(len(token)) - (after - sizes[order])[token]
        at = row[token], first[token] + step
        source = begin[order][token] + step
        shape = len(fills), int(capacity.max())
        laid = torch.zeros(shape, dtype=torch.long).index_put(at, ids[order[token], source])
        real = torch.arange(width).expand(items, -1) if mask is None else (mask.long().cumsum(1) - 1).clamp_min(0)
        places = torch.zeros(shape, dtype=torch.long).index_put(at, real[order[token], source])
        known = torch.zeros(shape, dtype=torch.long).index_put(at, begin[order][token])
        holds = torch.full(shape, -1).index_put(at, order[token])
        shown = torch.ones(len(fills), width - 1, dtype=torch.bool)
        if mask is not None:
            shown = mask[torch.tensor([own[0] for _, own in fills]), : width - 1]
        of_rows = torch.tensor([number for number, _ in fills])
        return cls(laid, places, known, holds, of_rows, shown, order, row, first + sizes[order] - 1)

    @property
    def sees(self) -> Bool[Tensor, "row position key"]:
        """What each position sees: first of what is cached, then of its row."""
        cached = torch.arange(self.mask.shape[1]) < self.begin.unsqueeze(2)
        own = (self.holds.unsqueeze(2) == self.holds.unsqueeze(1)).tril()
        return torch.cat([cached & self.mask.unsqueeze(1), own], 2)


def filled(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of the items of each row: in every place the largest one that has room (first-fit decreasing)."""
    of_size: dict[int, list[int]] = {}
    for number, size in reversed(list(enumerate(sizes))):
        of_size.setdefault(size, []).append(number)
    rows = []
    while of_size:
        room, row = capacity, []
        for size in sorted(of_size, reverse=True):
            while size in of_size and size <= room:
                row.append(of_size[size].pop())
                room -= size
                if not of_size[size]:
                    del of_size[size]
        rows.append(row)
    return rows
