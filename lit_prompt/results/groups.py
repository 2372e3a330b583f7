"""Targets of about the same entropy, for tables and plots."""

import numpy as np

_MOST_GROUPS = 24


def entropy_groups(entropy: np.ndarray) -> list[np.ndarray]:
    """Positions of the targets of each entropy, by rising entropy.

    The entropies of a grid (equal to 0.1 nats) are taken as they are; where there are too many, bins of half a nat
    take their place.

    Args:
        entropy: nats, ``[target]``.

    Returns:
        One array of positions a group.
    """
    key = np.round(entropy, 1)
    if len(np.unique(key)) > min(_MOST_GROUPS, max(len(entropy) // 2, 1)):
        key = np.floor(entropy * 2) / 2
    return [np.flatnonzero(key == value) for value in np.unique(key)]
