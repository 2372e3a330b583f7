"""Which tokens carry a KL."""

import torch
from torch import Tensor

from lit_prompt.functional.divergence import normalize_log_probs


def token_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Share of every token in KL(p || q): p log(p/q) + q - p, which is never negative.

    Args:
        log_p: log of the target, ``[..., vocab]``.
        log_q: log of the reached distribution, ``[..., vocab]``.

    Returns:
        Nats, ``[..., vocab]``; they sum to the KL.
    """
    log_p, log_q = normalize_log_probs(log_p), normalize_log_probs(log_q)
    p, q = log_p.exp(), log_q.exp()
    ratio = (log_p - log_q).masked_fill(p == 0, 0.0)
    return (p * ratio + q - p).clamp_min(0.0)


def largest_errors(p: Tensor, q: Tensor, k: int = 5) -> list[int]:
    """The tokens with most missing and with most excess mass.

    Args:
        p: target, ``[vocab]``.
        q: reached distribution, ``[vocab]``.
        k: number of tokens on each side, at most; differences below 1e-6 do not count.
    """
    found = [torch.topk(x, min(k, len(x))) for x in (p - q, q - p)]
    return [i for top in found for i, x in zip(top.indices.tolist(), top.values.tolist(), strict=True) if x > 1e-6]
