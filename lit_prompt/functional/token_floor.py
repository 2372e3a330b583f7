"""The token floor: a KL that, of a target drawn at random, hard prompts of so many tokens do not go below."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lit_prompt.functional.precision import double
from lit_prompt.functional.row_loop import bisect

#: Probability with which claims that are made together may fail.
EPS = 1e-6

# every k up to here is tried, and above it those of a geometric sequence: neighbours hardly differ there
_EVERY_K = 256
_RATIO = 1.05


def prompt_information(allowed: int, length: int, claims: int = 1, eps: float = EPS, shorter: bool = False) -> float:
    r"""What :func:`kl_floor_tokens` asks of the prompts, C = ln(number of prompts) + ln(claims / eps), in nats.

    Args:
        allowed: tokens that a prompt may hold.
        length: tokens of a prompt.
        claims: how many claims hold together, targets times lengths: each of them gets ``eps`` / ``claims``.
        eps: probability with which one of them may fail.
        shorter: whether prompts of 1 to ``length`` tokens count, not only those of exactly ``length``.
    """
    return log_prompt_count(allowed, length, shorter) + math.log(claims / eps)


def log_prompt_count(allowed: int, length: int, shorter: bool = False) -> float:
    """The logarithm of the number of prompts; arguments as of :func:`prompt_information`."""
    fewest = 1 if shorter else length
    return float(torch.arange(fewest, length + 1, dtype=torch.float64).mul(math.log(allowed)).logsumexp(0))


def kl_floor_tokens(
    log_probs: Float[Tensor, "target vocab"],
    exchangeable: Bool[Tensor, "target vocab"],
    information: Float64[Tensor, " claim"],
) -> Float64[Tensor, "target claim"]:
    r"""A lower bound of the KL of every one of many prompts, for targets drawn at random after them.

    The probabilities of a target p are fixed, and which of its V exchangeable tokens has which of them is uniformly
    random, drawn after the LM, the allowed tokens and the texts around the prompt were chosen; the others, F, have
    theirs. Let p_1 >= p_2 >= ... be those of exchangeable tokens, T their sum from the (k + 1)-th on, H the entropy of
    the whole p. Then, with probability at least 1 - eps, no prompt of N has a KL(p || q) below

    .. math:: T \ln(V - k) - H + \frac{1}{s} \Big[(s - k) H(w) + \ln\frac{V!}{(V - k)!} - C\Big],
        \qquad C = \ln N + \ln\frac{1}{\epsilon},

    for every k and every s with 1/p_k <= s <= 1/p_{k+1}, where w has the weights (s p_i - 1)/(s - k) for i <= k,
    s T/(s - k), and s p_f/(s - k) for f in F. In t = 1/s it is concave, with the slope ln(V!/(V - k)!) - C + sum of
    ln w_i, i <= k, so that the best t of a k is where that is zero or an end. As k and t depend on the sorted p alone,
    the best may be taken; here all k up to 256 are tried, and steps of 5 % from there on.

    Source: Chernoff's bound on the probability that a fixed q is so near, and a union over prompts. The top k places
    are summed over; the others meet exponents of at most 1 in random order, so that q may be averaged over them; what
    is left is largest at q = w by Gibbs' inequality. docs/token_floor.md has the whole proof, and what is not covered.

    Args:
        log_probs: of the targets, normalised here in float64, on the CPU.
        exchangeable: which tokens are exchangeable; at least one of each target.
        information: C of each claim in nats, not below zero: see :func:`prompt_information`.

    Returns:
        The floors in nats, not below zero, on the CPU.
    """
    ranked = Ranked.of(double(log_probs).softmax(-1), exchangeable.cpu())
    every = torch.arange(len(log_probs))
    best = torch.zeros(len(log_probs), len(information), dtype=torch.float64)
    inside: list[tuple[int, Tensor]] = []
    for k in ranked.ranks():
        low = ranked.p[:, k]
        value, slope = ranked.split(k, every).bound(low)
        values = value.unsqueeze(1) - low.unsqueeze(1) * information
        best = torch.maximum(best, values)
        # where the slope is positive the best t is above this end, and as the bound is concave no higher than this
        if k:
            inside.append((k, values + (ranked.p[:, k - 1] - low).unsqueeze(1) * (slope.unsqueeze(1) - information)))
    for k, highest in inside:
        targets, claims = (highest > best).nonzero(as_tuple=True)
        if len(targets):
            found = _best_inside(ranked.split(k, targets), ranked.p[targets, k], information[claims])
            best[targets, claims] = torch.maximum(best[targets, claims], found)
    return best


def _best_inside(split: "_Split", low: Tensor, information: Tensor) -> Tensor:
    """The greatest bound of each row, for its C, at a t between ``low`` and the least of the row's top, ``[row]``."""

    def falls(row: Tensor, t: Tensor) -> Tensor:
        return split.rows(row).bound(t)[1] < information[row]

    t, _ = bisect(falls, low, split.top[:, -1])
    return split.bound(t)[0] - t * information


@dataclass(frozen=True)
class Ranked:
    """Targets by their sorted probabilities."""

    p: Tensor  #: of exchangeable tokens, falling, and a zero, ``[target, 1 + vocab]``
    tail: Tensor  #: their sums from each on, ``[target, 1 + vocab]``
    count: Tensor  #: number of exchangeable tokens, ``[target]``
    entropy: Tensor  #: nats, ``[target]``
    fixed: Tensor  #: mass of the tokens that are not exchangeable, ``[target]``
    fixed_entropy: Tensor  #: what they add to the entropy, ``[target]``

    @classmethod
    def of(cls, p: Tensor, exchangeable: Tensor) -> "Ranked":
        """Sorts probabilities ``[target, vocab]``, float64."""
        ranked = p.masked_fill(~exchangeable, 0.0).sort(dim=1, descending=True).values
        ranked = torch.cat([ranked, ranked.new_zeros(len(p), 1)], 1)
        others = p.masked_fill(exchangeable, 0.0)
        return cls(
            ranked, ranked.flip(1).cumsum(1).flip(1), double(exchangeable.sum(1)), torch.special.entr(p).sum(1),
            others.sum(1), torch.special.entr(others).sum(1),
        )  # fmt: skip

    def ranks(self) -> Iterator[int]:
        """The values of k that are tried: no more than there are probabilities above zero."""
        most = int((self.p > 0).sum(1).max())
        k = 0
        while k <= most:
            yield k
            k = k + 1 if k < _EVERY_K or k == most else min(int(_RATIO * k), most)

    def split(self, k: int, targets: Tensor) -> "_Split":
        """Some targets, with their top k set apart."""
        others = (x[targets] for x in (self.tail[:, k], self.count, self.entropy, self.fixed, self.fixed_entropy))
        return _Split(self.p[targets, :k], *others)


@dataclass(frozen=True)
class _Split:
    """Targets whose top k are set apart."""

    top: Tensor  #: the k largest probabilities, ``[row, k]``
    tail: Tensor  #: mass of the other exchangeable tokens, ``[row]``
    count: Tensor  #: as of :class:`Ranked`, like all that follow
    entropy: Tensor
    fixed: Tensor
    fixed_entropy: Tensor

    def rows(self, rows: Tensor) -> "_Split":
        """Some of the rows."""
        return _Split(*(value[rows] for value in vars(self).values()))

    def bound(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The bound at t = 1/s and its slope in t, ``[row]``, nats, both for C = 0.

        In t it is T ln(V - k) - H + (1 - kt) H(w) + t ln(V!/(V - k)!), with the weights (p_i - t)/(1 - kt),
        T/(1 - kt) and p_f/(1 - kt).
        """
        above = (self.top - t.unsqueeze(1)).clamp_min(0.0)
        whole = above.sum(1) + self.tail + self.fixed  # 1 - kt
        left = (self.count - self.top.shape[1]).clamp_min(0.0)
        places = torch.lgamma(self.count + 1) - torch.lgamma(left + 1)
        entropies = torch.special.entr(above).sum(1) + torch.special.entr(self.tail) + self.fixed_entropy
        weights = entropies - torch.special.entr(whole)  # (1 - kt) H(w)
        value = self.tail * left.clamp_min(1.0).log() - self.entropy + weights + t * places
        return value, (above / whole.unsqueeze(1)).log().sum(1) + places
