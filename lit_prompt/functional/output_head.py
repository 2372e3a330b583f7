"""The part of an LM that no prompt can change: final norm and output head, and what they let a prompt reach."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lit_prompt.functional.divergence import normalize_log_probs
from lit_prompt.functional.precision import double
from lit_prompt.functional.rows import pad_rows

# a block of the head in float64 takes at most this much memory, and as much again for the logits that it gives
_BLOCK_BYTES = 128 * 2**20
# a head whose weights take at most this much in float64 is converted once, not at each evaluation
_KEPT_BYTES = 2 * 2**30
_MOST_ITEMS = 512
# top tokens that a target's terms name
_TOP_TOKENS = 64
# rows of the head that its spectrum is taken of
_SAMPLED_ROWS = 16384
# share of the mean eigenvalue that is added to each, so that no direction is taken for flat
_DAMPING = 0.01
# evaluations take the product with the head in float32
_LOGIT_ROUNDING = torch.finfo(torch.float32).eps
# recovered states leave the ball by one rounding where the norm is sound, by hundreds before a floor is in danger
_ROUNDINGS = 8.0
# a coordinate whose gain is a smaller share of the largest gain cannot be recovered from the features
_SEEN = 1e-3


@dataclass(frozen=True)
class TargetTerms:
    """What the objective needs of some targets."""

    moments: Float64[Tensor, "item dim"]  #: of p, pulled back to the normalised state
    constant: Float64[Tensor, " item"]  #: <p, c> + H(p), with c the logits at state zero
    tokens: Int64[Tensor, "item top"]  #: the most likely tokens of p
    token_probs: Float64[Tensor, "item top"]

    def rows(self, which: Tensor) -> "TargetTerms":
        """Some of the targets."""
        return TargetTerms(self.moments[which], self.constant[which], self.tokens[which], self.token_probs[which])


class OutputHead:
    r"""Next-token distributions as a function of the normalised last hidden state u.

    The features are ``gain u + shift`` (gain and bias of the final norm, and a projection where one follows), the
    logits ``weight features + bias``. Whatever the prompt, :math:`\|u\| \le` :attr:`radius`, and u has mean zero
    where the norm centres it. The objective is computed over blocks of the vocabulary, so that neither the head in
    another dtype than its own nor a table of all probabilities is ever held. States, targets and results are float64 on
    the CPU. Products with the head are float64 there too, unless float32 is asked for: those run on the head's device,
    are several times as fast, and do for all but a certificate.

    Args:
        weight: ``[vocab, feature]``, any floating dtype.
        bias: ``[vocab]``, or None.
        gain: ``[dim]`` for an elementwise gain (dim = feature), or a matrix ``[feature, dim]``.
        shift: ``[feature]``.
        centred: whether u has mean zero.
        rounding: relative error of the LM's arithmetic; the machine epsilon of its dtype.
    """

    sphere_radius: float  #: sqrt(dim)
    radius: float  #: bound of the norm of u, rounding of the LM's arithmetic included
    slack: float  #: how far rounding outside that bound can lower a KL, nats
    float32_gap: float  #: with float32 products a gap of at most so many nats may be rounding alone

    def __init__(
        self, weight: Tensor, bias: Tensor | None, gain: Tensor, shift: Tensor, centred: bool, rounding: float
    ) -> None:
        self._weight = weight
        self._bias = weight.new_zeros(len(weight)) if bias is None else bias
        self._gain, self._shift = double(gain), double(shift)
        self._rounding = rounding
        self.dim = gain.shape[-1]
        self.centred = centred
        self.sphere_radius = math.sqrt(self.dim)
        # an LM rounds u and its product with the gain, each by half of this
        self.radius = self.sphere_radius * (1.0 + 2.0 * rounding)
        self.slack, norm = self._rounding_slack(rounding)
        self.float32_gap = 8.0 * torch.finfo(torch.float32).eps * norm * self.radius

    def _blocks(self, dtype: torch.dtype = torch.float64) -> Iterable[tuple[slice, Tensor, Tensor]]:
        """The head in blocks of its vocabulary: in float64 on the CPU, in another dtype where its weights are."""
        kept = dtype == torch.float64 and 8 * self._weight.numel() <= _KEPT_BYTES
        return self._kept if kept else self._converted(dtype)

    @cached_property
    def _kept(self) -> list[tuple[slice, Tensor, Tensor]]:
        return list(self._converted(torch.float64))

    def _converted(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
        vocab, features = self._weight.shape
        size = max(256, _BLOCK_BYTES // (8 * max(features, _MOST_ITEMS)))
        for start in range(0, vocab, size):
            part = slice(start, min(start + size, vocab))
            weight, bias = self._weight[part], self._bias[part]
            if dtype == torch.float64:
                yield part, double(weight), double(bias)
            else:
                yield part, weight.to(dtype), bias.to(dtype)

    def features(self, u: Tensor) -> Tensor:
        """Features of normalised states: ``[item, dim]`` to ``[item, feature]``, float64."""
        return _times(u, self._gain) + self._shift

    def contains(self, features: Float[Tensor, "item feature"]) -> Bool[Tensor, " item"]:
        """Whether some state of the ball, of mean zero where the norm centres, gives these features, up to rounding.

        A norm keeps its output there, whatever a prompt does, unless its own arithmetic fails: a LayerNorm subtracts
        the wrong mean where its input's is 10^5 times the spread or more. No floor bounds what such a prompt reaches.
        False where a feature is not finite.
        """
        inverse, unseen = self._inverse
        given = double(features) - self._shift
        u = _times(given, inverse)  # the shortest state that gives the features
        norm = u.norm(dim=1)
        # how far rounding of the features, and of the sums that gave them, can shift a state of the ball
        size = u.abs() * (self.sphere_radius / norm.clamp_min(self.sphere_radius)).unsqueeze(1)
        blur = _times(_times(size, self._gain.abs()) + self._shift.abs(), inverse.abs()).norm(dim=1)
        tolerance = _ROUNDINGS * self._rounding
        inside = norm <= self.sphere_radius * (1.0 + tolerance) + tolerance * blur
        if self.centred:
            # what the gain hides of the state can make up for a mean, within the ball
            hidden = unseen * (self.sphere_radius**2 - norm**2).clamp_min(0.0).sqrt()
            inside &= u.sum(1).abs() <= hidden + tolerance * self.sphere_radius * (self.sphere_radius + blur)
        return inside

    @cached_property
    def _inverse(self) -> tuple[Tensor, float]:
        """The gain's pseudo-inverse, and the norm of the part of the all-ones vector that the gain hides."""
        if self._gain.dim() == 2:
            inverse = torch.linalg.pinv(self._gain)
            ones = double(torch.ones(self.dim))
            unseen = float((ones - inverse @ (self._gain @ ones)).norm())
            return inverse, unseen if unseen > 1e-6 * self.sphere_radius else 0.0
        seen = self._gain.abs() > _SEEN * self._gain.abs().max()
        return torch.where(seen, 1.0 / self._gain, 0.0), math.sqrt(float((~seen).sum()))

    def _pull_back(self, x: Tensor) -> Tensor:
        """The transposed gain, and the centring: ``[item, feature]`` to ``[item, dim]``."""
        return self.centre(x * self._gain if self._gain.dim() == 1 else x @ self._gain)

    def centre(self, u: Tensor) -> Tensor:
        """Subtracts the mean of each row of ``[item, dim]`` where the norm does."""
        return u - u.mean(-1, keepdim=True) if self.centred else u

    def terms(self, log_p: Tensor) -> TargetTerms:
        """What the objective needs of targets ``[item, vocab]``, log-probabilities of any floating dtype."""
        parts = []
        for part in log_p.split(_MOST_ITEMS // 8):
            log_part = normalize_log_probs(double(part))
            p = log_part.exp()
            features = p.new_zeros(len(p), self._weight.shape[1])
            offset = -(p * log_part.masked_fill(p == 0, 0.0)).sum(1)
            for columns, weight, bias in self._blocks():
                padded = pad_rows(p[:, columns])
                features += (padded @ weight)[: len(p)]
                offset += (padded @ bias)[: len(p)]
            top = p.topk(min(_TOP_TOKENS, p.shape[1]))
            parts.append((self._pull_back(features), offset + (features * self._shift).sum(1), top.indices, top.values))
        return TargetTerms(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def rows(self, tokens: Int64[Tensor, "item top"]) -> tuple[Tensor, Tensor]:
        """Gradients of tokens' logits with respect to the state, ``[item, top, dim]``, and the logits at state zero."""
        weight = double(self._weight[tokens.to(self._weight.device)])
        offsets = weight @ self._shift + double(self._bias[tokens.to(self._bias.device)])
        return self._pull_back(weight), offsets

    @cached_property
    def spectrum(self) -> tuple[Float64[Tensor, " free"], Float64[Tensor, "dim free"]]:
        """The covariance of the head's rows: its eigenvalues, slightly raised, and its eigenvectors, a column each.

        Of a part of the rows, spread over the vocabulary, where those are many. The eigenvectors span all states that
        the norm gives: where it centres them, they have mean zero.
        """
        sample = self._weight[:: -(-len(self._weight) // _SAMPLED_ROWS)]
        covariance = torch.cov(self._pull_back(double(sample)).T, correction=0)
        if self.centred:
            covariance += (1.0 + covariance.trace()) / self.dim  # the direction that is left out has the largest one
        values, vectors = torch.linalg.eigh(covariance)
        free = self.dim - self.centred
        values, vectors = values[:free].clamp_min(0.0), vectors[:, :free]
        return (values + _DAMPING * values.mean()).clamp_min(1e-12), vectors

    def kl_and_gradient(
        self, u: Float64[Tensor, "item dim"], terms: TargetTerms, products: torch.dtype = torch.float64
    ) -> tuple[Float64[Tensor, " item"], Float64[Tensor, "item dim"]]:
        """KL(p || q) in nats and its gradient at normalised states, with float64 or float32 products with the head."""
        every = torch.arange(len(u), device=u.device).split(_MOST_ITEMS)
        kl, gradient = zip(*(self._part(u[i], terms.rows(i), products) for i in every), strict=True)
        return torch.cat(kl), torch.cat(gradient)

    def _part(self, u: Tensor, terms: TargetTerms, products: torch.dtype) -> tuple[Tensor, Tensor]:
        h = pad_rows(self.features(u))
        if products != torch.float64:
            h = h.to(products).to(self._weight.device)
        sums = torch.float64 if h.device.type == "cpu" else products  # an accelerator may have no float64
        top = torch.full_like(h[:, :1], -math.inf)
        total, mean = torch.zeros_like(top, dtype=sums), torch.zeros_like(h, dtype=sums)
        for _, weight, bias in self._blocks(products):
            z = torch.addmm(bias, h, weight.T)
            higher = torch.maximum(top, z.amax(1, keepdim=True))
            q = z.sub_(higher).exp_()
            shrink = (top.to(sums) - higher).exp()
            total = total * shrink + q.sum(1, keepdim=True, dtype=sums)
            mean = mean * shrink + q @ weight
            top = higher
        log_partition = double((top + total.log())[: len(u), 0])
        gradient = self._pull_back(double((mean / total)[: len(u)])) - terms.moments
        # <p, c> and <m_p, u> together are the target's mean logit
        return log_partition - (terms.moments * u).sum(1) - terms.constant, gradient

    def _rounding_slack(self, rounding: float) -> tuple[float, float]:
        """Bounds the effect of rounding outside the ball by the largest change of a logit; never below 1e-6.

        Also returns the largest row norm of weight times gain.
        """
        dim = double(torch.ones(1, self.dim))
        mean = (self.features(dim) - self._shift).squeeze(0)  # of the direction that centring takes away
        matrix = self._gain.dim() == 2
        size = self._shift.abs() + (self.radius * self._gain.norm(dim=1) if matrix else 0.0)
        bent, norm, low, high, bias_size = 0.0, 0.0, math.inf, -math.inf, 0.0
        for _, weight, bias in self._converted(torch.float64):  # for many prompts this is all that is asked
            bent = max(bent, float((weight.abs() @ size).max()))
            along = weight @ mean
            low, high = min(low, float(along.min())), max(high, float(along.max()))
            rows = weight @ self._gain if matrix else weight * self._gain
            norm = max(norm, float(rows.norm(dim=1).max()))
            bias_size = max(bias_size, float(bias.abs().max()))
        slack = 2.0 * rounding * bent + 2.0 * _LOGIT_ROUNDING * (norm * self.radius + bent + bias_size)
        return max(1e-6, slack + (rounding * (high - low) if self.centred else 0.0)), norm


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """Vectors ``[item, dim]`` times an elementwise factor ``[dim]`` or a matrix ``[out, dim]``."""
    return x * factor if factor.dim() == 1 else x @ factor.T
