"""The token floor of mixtures: a KL that, of a target drawn at random, no mixture of few hard prompts goes below."""

import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lit_prompt.functional.token_floor import kl_floor_tokens

# every whole number up to here is tried for R, and powers of 2 above it
_EVERY_PART = 8
_MOST_PARTS = 2**20


def mixture_floor_tokens(
    log_probs: Float[Tensor, "target vocab"],
    exchangeable: Bool[Tensor, "target vocab"],
    log_prompts: Float64[Tensor, " claim"],
    log_eps: Float64[Tensor, " claim"],
    components: int,
) -> Float64[Tensor, "target claim"]:
    r"""A lower bound of the KL of every mixture of at most K of N prompts, whatever the weights.

    As of :func:`lit_prompt.functional.kl_floor_tokens`, with probability at least 1 - eps, for any whole R >= 1: the
    bound of single prompts with

    .. math:: C = \ln \sum_{j=1}^{K} \frac{N^j}{j!} \binom{R + K - 2}{j - 1} + \ln\frac{1}{\epsilon},

    less ln(1 + (K - 1)/R). For K = 1 that is the token floor of single prompts. R is the best of some that are tried,
    which depends on the sorted probabilities alone.

    Source: weights w_k are rounded up to ceil(R w_k), and one of them more, until they sum to R + K - 1. Divided by
    that they are at least w_k / (1 + (K - 1)/R), so that the KL is larger by at most the logarithm of that; and there
    are so many sets of j prompts with such weights. docs/token_floor.md has the whole proof.

    Args:
        log_probs: of the targets, normalised here in float64, on the CPU.
        exchangeable: which tokens are exchangeable; at least one of each target.
        log_prompts: ln N of each claim, see :func:`lit_prompt.functional.token_floor.log_prompt_count`.
        log_eps: ln eps of each claim.
        components: K, prompts of a mixture at most.

    Returns:
        The floors in nats, not below zero, on the CPU.
    """
    parts = [1] if components == 1 else _tried_parts()
    information = torch.stack([log_mixture_count(log_prompts, components, own) - log_eps for own in parts], 1)
    found = kl_floor_tokens(log_probs, exchangeable, information.flatten()).unflatten(1, information.shape)
    losses = torch.tensor([math.log1p((components - 1) / own) for own in parts], dtype=torch.float64)
    return (found - losses).amax(2).clamp_min(0.0)


def log_mixture_count(log_prompts: Float64[Tensor, " claim"], components: int, parts: int) -> Float64[Tensor, " claim"]:
    """The logarithm of a number of mixtures of at most K of N prompts with weights in units of 1 / (R + K - 1).

    There are no more of them than that.

    Args:
        log_prompts: ln N.
        components: K.
        parts: R.
    """
    j = torch.arange(1, components + 1, dtype=torch.float64)
    units = torch.tensor(parts + components - 1, dtype=torch.float64)
    weights = torch.lgamma(units) - torch.lgamma(j) - torch.lgamma(units - j + 1)
    return (j * log_prompts.unsqueeze(1) - torch.lgamma(j + 1) + weights).logsumexp(1)


def _tried_parts() -> list[int]:
    """The values of R that are tried."""
    every = list(range(1, _EVERY_PART + 1))
    while every[-1] < _MOST_PARTS:
        every.append(2 * every[-1])
    return every
