"""What is known of KL(p || q) where only the largest probabilities of q are listed."""

import torch
from torch import Tensor


def largest_unlisted(p: Tensor, least: float, rest: float) -> Tensor:
    """The log-probabilities of unlisted outcomes at which KL(p || q) is least, whatever q may be.

    Each of them is at most the least that is listed, and all together at most what the list leaves. The KL falls where
    q is proportional to p below the first bound (the KKT conditions of maximising sum p ln q), which is found by taking
    outcomes of large p to the bound one by one.

    Args:
        p: probabilities of the unlisted outcomes ``[outcome]``, float64, all positive.
        least: the smallest probability that is listed.
        rest: what all listed ones together leave of 1.

    Returns:
        Log-probabilities ``[outcome]``, float64: no q has a smaller KL.
    """
    order = p.argsort(descending=True)
    q = torch.zeros_like(p)
    mass, left = max(rest, 0.0), p[order].flip(0).cumsum(0).flip(0).tolist()  # never less than what is summed
    for place, outcome in enumerate(order.tolist()):
        if mass * float(p[outcome]) / left[place] <= least:
            others = order[place:]
            q[others] = mass * (p[others] / left[place])
            break
        q[outcome] = least
        mass -= least
    return q.log()
