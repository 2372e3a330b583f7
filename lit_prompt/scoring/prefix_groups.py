"""Which candidates go through the LM together when each needs only the positions from its first change on."""

import torch
from torch import Tensor

# A pass through the LM costs about as much as this many more positions (measured on CPUs: 35 with SmolLM2, 42 in
# bfloat16, 75 to 95 with LMs of 3 million weights).
_PASS_IN_POSITIONS = 64
# where a candidate's group is to follow from itself alone, this many positions more or less make no other one
_COARSE = 4


def group_by_start(start: Tensor, length: int) -> list[tuple[int, Tensor]]:
    """Groups candidates by their first changed positions, ``[candidate]``, so that little is computed.

    All candidates of a group are computed from the group's first changed position to the end at ``length``. The
    grouping with the least cost, positions computed plus a price for each pass, is found exactly by dynamic
    programming. Returns for each group the position that it is computed from, and its candidates.
    """
    count = torch.bincount(start, minlength=length).tolist()
    # best[p]: least cost of the candidates that change at p or later; cut[p]: where the next group begins
    best, cut = [0.0] * (length + 1), [length] * (length + 1)
    for p in range(length - 1, -1, -1):
        if count[p] == 0:
            best[p], cut[p] = best[p + 1], p + 1
            continue
        rows, best[p] = 0, float("inf")
        for end in range(p + 1, length + 1):
            rows += count[end - 1]
            cost = _PASS_IN_POSITIONS + rows * (length - p) + best[end]
            if cost < best[p]:
                best[p], cut[p] = cost, end
    groups, p = [], 0
    while p < length:
        if count[p]:
            groups.append((p, ((start >= p) & (start < cut[p])).nonzero().flatten()))
        p = cut[p]
    return groups


def group_by_own_start(start: Tensor, length: int) -> list[tuple[int, Tensor]]:
    """As :func:`group_by_start`, but a candidate's group does not depend on the others: coarser, and costlier."""
    computed = length - start
    coarse = torch.where(computed <= 2, computed, (-(-computed // _COARSE) * _COARSE).clamp_max(length))
    own = length - coarse
    return [(first, (own == first).nonzero().flatten()) for first in own.unique().tolist()]
