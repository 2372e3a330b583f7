"""The curvature of KL(p || q) over the states, as a model that is cheap to make and to invert."""

import torch
from torch import Tensor

from lit_prompt.functional.low_rank import LowRankMatrix
from lit_prompt.functional.output_head import OutputHead, TargetTerms
from lit_prompt.functional.rows import matrix_times, pad_rows

# a top token counts with this share of its probability under the target, even where q has not come near it yet
_AHEAD = 0.2
# the least share of the distribution that is taken to lie on other tokens
_LEAST_REST = 1e-3


class Curvature:
    r"""A model of the objective's Hessian, which is the covariance of the head's rows under q.

    The target's top tokens, which hold most of q once it is near a target of low entropy, are taken as they are. The
    other tokens count as if all of the vocabulary were equally likely: the covariance that gives is the same for all
    targets and is diagonalised once for a head.

    Args:
        head: the head.
        terms: the targets.

    Attributes:
        basis: states are given in this one, the eigenvectors of that covariance, ``[dim, free]``.
    """

    def __init__(self, head: OutputHead, terms: TargetTerms) -> None:
        self._spread, self.basis = head.spectrum
        rows, self._offsets = head.rows(terms.tokens)
        self._rows = self.to_basis(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        self._moments = self.to_basis(terms.moments)
        self._constant, self._probs = terms.constant, terms.token_probs

    def to_basis(self, u: Tensor) -> Tensor:
        """Coordinates of states, or gradients, ``[row, dim]`` in the basis, ``[row, free]``."""
        return (pad_rows(u) @ self.basis)[: len(u)]

    def from_basis(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`to_basis`."""
        return (pad_rows(x) @ self.basis.T)[: len(x)]

    def at(self, which: Tensor, x: Tensor, kl: Tensor, gradient: Tensor) -> LowRankMatrix:
        """The model at states ``[row, free]`` for some targets ``[row]``, where KL and gradient are known."""
        rows, moments = self._rows[which], self._moments[which]
        log_partition = kl + (moments * x).sum(1) + self._constant[which]
        z = matrix_times(rows, x) + self._offsets[which]
        q = (z - log_partition.unsqueeze(1)).exp().clamp_max(1.0)
        weight = torch.maximum(q, _AHEAD * self._probs[which])
        deviation = rows - (gradient + moments).unsqueeze(1)  # from the mean row under q
        rest = (1.0 - q.sum(1, keepdim=True)).clamp_min(_LEAST_REST)
        return LowRankMatrix.sum_of_squares(rest * self._spread, (deviation * weight.sqrt().unsqueeze(2)).mT)
