"""The token floor of one LM: what it gives to the tokens beside the likeliest, its tails, is never even."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.functional.token_floor import Ranked, kl_floor_tokens

#: Numbers k of tokens that are set apart, and powers b of the others' probabilities, at which tails are measured.
_RANKS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_POWERS = torch.logspace(-3, 0, 31, dtype=torch.float64)
_POINTS = 17  # values of t that are tried between two probabilities


@dataclass(frozen=True)
class Tails:
    r"""How far from even an LM's distributions are at least, whichever k tokens are set apart.

    Attributes:
        divergences: for each k and power b the least Rényi divergence of order 1 - b of the uniform distribution over
            V - k tokens from q on these, renormalised, nats: over all prompts, and over all choices of the k tokens,

            .. math:: D_{1-b}(u \,\|\, r) = -\ln(V - k) - \frac{1}{b} \ln \frac{1}{V - k} \sum_v r_v^b,

            float64, ``[k, b]``, on the CPU.
    """

    divergences: Float64[Tensor, "rank power"]

    @classmethod
    def of(cls, log_q: Float[Tensor, "prompt vocab"]) -> "Tails":
        """Measures the tails of an LM's distributions after some prompts.

        Args:
            log_q: log-probabilities of at least two tokens, on any device.
        """
        ranked = double(log_q).cpu().sort(1, descending=True).values
        size = ranked.shape[1]
        ranks = [k for k in _RANKS if k < size]
        mass = _Kept(ranked, ranks[-1])
        found = []
        for power in _POWERS:
            kept = _Kept(power * ranked, ranks[-1])
            # D falls as this rises
            evenness = [(kept.logs(k) - power * mass.logs(k)).amax() for k in ranks]
            left = torch.tensor([float(size - k) for k in ranks], dtype=torch.float64).log()
            found.append(-left - (torch.stack(evenness) - left) / power)
        return cls(torch.stack(found, 1).clamp_min(0.0))

    def with_prompts_of(self, other: "Tails") -> "Tails":
        """The tails of all prompts of both."""
        return Tails(torch.minimum(self.divergences, other.divergences))

    def below(self, rank: int, exponents: Tensor) -> Tensor:
        """What the divergence of powers above zero and up to 1 is never below, k being the rank-th.

        b D is concave in b, as the logarithm of a mean of powers is convex, and 0 at b = 0: so it is nowhere below the
        line between two of the powers that were measured.
        """
        powers = torch.cat([_POWERS.new_zeros(1), _POWERS])
        values = torch.cat([_POWERS.new_zeros(1), _POWERS * self.divergences[rank]])
        after = torch.searchsorted(powers, exponents).clamp(1, len(_POWERS))
        share = (exponents - powers[after - 1]) / (powers[after] - powers[after - 1])
        return torch.lerp(values[after - 1], values[after], share.clamp_max(1.0)) / exponents


class _Kept:
    """Sums of exponentials ``[prompt, vocab]``, falling, without the m largest and the k - m smallest."""

    def __init__(self, logs: Tensor, most: int) -> None:
        values = logs.exp()
        self._from = values.flip(1).cumsum(1).flip(1)
        none = values.new_zeros(len(values), 1)
        self._least = torch.cat([none, values[:, values.shape[1] - most :].flip(1).cumsum(1)], 1)

    def logs(self, k: int) -> Tensor:
        """Their logarithms for m = 0 to k, ``[prompt, m]``."""
        return (self._from[:, : k + 1] - self._least[:, : k + 1].flip(1)).log()


def kl_floor_tails(
    log_probs: Float[Tensor, "target vocab"], tails: Tails, information: Float64[Tensor, " claim"]
) -> Float64[Tensor, "target claim"]:
    r"""A lower bound of the KL of every prompt of an LM whose tails are no more even than these.

    As :func:`lit_prompt.functional.kl_floor_tokens`, for targets all of whose tokens are exchangeable, with

    .. math:: \sum_{i > k} p_i D_{1 - s p_i}

    more, and never below it. The tails are to be of all prompts that are counted in ``information``; where they are of
    some of them, the bound is of those that have no more even ones.

    Source: given where the k likeliest tokens are, the others' places are a random permutation, and what a fixed q has
    there is negatively associated (Joag-Dev and Proschan, Annals of Statistics 11, 1983, theorem 2.11), so that the
    expectation of a product of powers is at most the product of their expectations. docs/token_floor.md has the proof.

    Args:
        log_probs: of the targets, normalised here in float64, on the CPU.
        tails: of the LM.
        information: C of each claim in nats, see :func:`lit_prompt.functional.prompt_information`.

    Returns:
        The floors in nats, not below zero, on the CPU.
    """
    everything = torch.ones(log_probs.shape, dtype=torch.bool)
    best = kl_floor_tokens(log_probs, everything, information)
    ranked = Ranked.of(double(log_probs).cpu().softmax(-1), everything)
    for rank, k in enumerate(_RANKS[: len(tails.divergences)]):
        for target in (ranked.p[:, k] > 0).nonzero().flatten():
            one = target.unsqueeze(0)
            low = ranked.p[target, k]
            high = ranked.p[target, k - 1] if k else low / _POWERS[0]  # where the powers are the lowest
            others = ranked.p[target, k:]
            others = others[others > 0]
            split = ranked.split(k, one)
            tried = torch.logspace(float(low.log10()), float(high.log10()), _POINTS, dtype=torch.float64)
            for t in tried.clamp(low, high):
                more = others @ tails.below(rank, others / t)
                best[target] = torch.maximum(best[target], split.bound(t.unsqueeze(0))[0] + more - t * information)
    return best
