"""The distribution that people sample from: an LM's at a temperature, cut to its likeliest tokens."""

import math

from jaxtyping import Float
from torch import Tensor

from lit_prompt.functional.divergence import normalize_log_probs


def sampled_log_probs(
    logits: Float[Tensor, "*batch vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities with which ``generate`` of transformers samples the next token.

    What its logits processors do, in their order: logits are divided by the temperature; all below the k-th largest
    are left out (Fan et al., 2018), so that ties with it stay; then the least likely tokens whose probabilities sum to
    at most 1 - ``top_p`` (nucleus sampling, Holtzman et al., 2020), but never the likeliest one.

    Args:
        logits: logits or log-probabilities of the LM, ``-inf`` for no probability.
        temperature: above 0.
        top_k: at least 1; None for all tokens.
        top_p: above 0, at most 1; None, as 1, for all tokens.

    Returns:
        Normalised, ``-inf`` for tokens that are never drawn: float32, or float64 where the logits are float64. The
        gradient is that of the tokens that stay.
    """
    scores = normalize_log_probs(logits)
    if temperature != 1.0:
        scores = scores / temperature
    if top_k is not None:
        least = scores.topk(min(top_k, scores.shape[-1])).values[..., -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    if top_p is not None and top_p < 1.0:
        ascending, order = scores.detach().sort()
        out = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        out[..., -1] = False
        scores = scores.masked_fill(out.scatter(-1, order, out), -math.inf)
    return scores.log_softmax(-1)
