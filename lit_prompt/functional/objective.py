"""The search objective, computed from a target's moments instead of its |V| probabilities."""

from jaxtyping import Float
from torch import Tensor


def kl_from_moments(
    logits: Float[Tensor, "*item vocab"],
    features: Float[Tensor, "*item feature"],
    moments: Float[Tensor, "*item feature"],
    offset: Float[Tensor, "*item"],
    entropy: Float[Tensor, "*item"],
) -> Float[Tensor, "*item"]:
    r"""KL(p || q) in nats from what a target needs in the search loop.

    With logits z = Wf + b for features f and q = softmax(z),

    .. math:: KL(p \| q) = \mathrm{logsumexp}(z) - \langle W^T p, f \rangle - \langle p, b \rangle - H(p),

    so that a target is its moments W^T p, its offset <p, b> and its entropy in nats, and the gradient with respect to f
    is the difference between the moments of q and of p (moment matching).
    """
    return logits.logsumexp(-1) - (moments * features).sum(-1) - offset - entropy


def kl_table_from_moments(
    logits: Float[Tensor, "item vocab"],
    features: Float[Tensor, "item feature"],
    moments: Float[Tensor, "target feature"],
    offset: Float[Tensor, " target"],
    entropy: Float[Tensor, " target"],
) -> Float[Tensor, "item target"]:
    """The same for all pairs of items and targets, in nats, by a single matrix product."""
    return logits.logsumexp(-1, keepdim=True) - features @ moments.T - offset - entropy
