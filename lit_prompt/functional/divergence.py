"""Divergences between next-token distributions, in nats, exact at zeros and in half precision.

Every function takes the log of the distributions over the last dimension: log-probabilities or unnormalised logits, of
any floating dtype. Half precision is raised to float32, and all are normalised with ``log_softmax`` before anything
else, so that the rounding of half-precision inputs does not leave a distribution that sums to 1.003. A probability of
zero is a log-probability of ``-inf``.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LogProbs = Float[Tensor, "*#batch vocab"]
Measure = Float[Tensor, "*batch"]


def normalize_log_probs(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities from logits: float32, or float64 where those are float64."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _expected_log_ratio(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """Sum of p (log p - log q) over normalised inputs, with 0 log 0 = 0."""
    absent = log_p == -math.inf
    log_ratio = (log_p - log_q).masked_fill(absent, 0.0)
    p = log_p.exp()
    # mass that is too small for p itself meets q = 0: 0 * inf would be NaN
    underflow = (p == 0) & (log_ratio == math.inf)
    return (p * log_ratio).masked_fill(underflow, math.inf).sum(-1)


def kl_divergence(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """Kullback-Leibler divergence KL(p || q) in nats; ``inf`` where p has mass on a token to which q gives none."""
    return _expected_log_ratio(normalize_log_probs(log_p), normalize_log_probs(log_q))


def reverse_kl_divergence(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """Reverse divergence KL(q || p) in nats; ``inf`` where q has mass on a token that p excludes."""
    return kl_divergence(log_q, log_p)


def missed_mass(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """-ln q(p > 0) in nats, what q's mass on the tokens of p falls short of 1: the Rényi divergence of order 0 (1961).

    It is what KL(p || q) would be if q shared that mass out as p does, so that it is never above it; ``inf`` where q
    has no such mass.
    """
    log_p, log_q = normalize_log_probs(log_p), normalize_log_probs(log_q)
    return 0.0 - torch.where(log_p > -math.inf, log_q, -math.inf).logsumexp(-1).clamp_max(0.0)


def js_divergence(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """Jensen-Shannon divergence in nats, between 0 and ln 2 (Lin, 1991)."""
    log_p, log_q = normalize_log_probs(log_p), normalize_log_probs(log_q)
    # where both are -inf the value does not count, but logaddexp would have a NaN gradient
    neither = (log_p == -math.inf) & (log_q == -math.inf)
    log_mixture = torch.logaddexp(log_p.masked_fill(neither, 0.0), log_q.masked_fill(neither, 0.0)) - math.log(2.0)
    return 0.5 * (_expected_log_ratio(log_p, log_mixture) + _expected_log_ratio(log_q, log_mixture))


def total_variation(log_p: LogProbs, log_q: LogProbs) -> Measure:
    """Total variation distance, half the L1 distance: a probability, without unit."""
    p, q = normalize_log_probs(log_p).exp(), normalize_log_probs(log_q).exp()
    return 0.5 * (p - q).abs().sum(-1)


def entropy(log_p: LogProbs) -> Measure:
    """Shannon entropy in nats, between 0 and ln|V|."""
    log_p = normalize_log_probs(log_p)
    # 0 - x, not -x: a one-hot distribution has entropy 0.0, not -0.0
    return 0.0 - (log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0.0)).sum(-1)


def top_k_overlap(log_p: LogProbs, log_q: LogProbs, k: int = 10) -> Measure:
    """Share of p's k most likely tokens that are among q's k most likely ones, between 0 and 1.

    Where p has fewer than k tokens with mass, only those count: for a one-hot target the value is 1 when q's top k
    holds its token.
    """
    k = min(k, log_p.shape[-1])
    top_p, index_p = log_p.topk(k, dim=-1)
    top_q, index_q = log_q.topk(k, dim=-1)
    present = top_p > -math.inf
    same = (index_p.unsqueeze(-1) == index_q.unsqueeze(-2)) & (top_q > -math.inf).unsqueeze(-2)
    return (same.any(-1) & present).sum(-1) / present.sum(-1)


def token_kl(log_p: LogProbs, log_q: LogProbs) -> Float[Tensor, "*batch vocab"]:
    """Contribution of each token to KL(p || q), in nats: p log(p/q) + q - p, never negative; they sum to the KL."""
    log_p, log_q = normalize_log_probs(log_p), normalize_log_probs(log_q)
    p, q = log_p.exp(), log_q.exp()
    ratio = (log_p - log_q).masked_fill(p == 0, 0.0)
    return (p * ratio + q - p).clamp_min(0.0)


def largest_errors(p: Float[Tensor, " vocab"], q: Float[Tensor, " vocab"], k: int = 5) -> list[int]:
    """Tokens with the most missing and the most excess probability in q, k of each at most, if over 1e-6."""
    found = [torch.topk(x, min(k, len(x))) for x in (p - q, q - p)]
    return [i for top in found for i, x in zip(top.indices.tolist(), top.values.tolist(), strict=True) if x > 1e-6]
