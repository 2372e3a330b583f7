"""Symmetric matrices that are diagonal but for few directions, one for each row of a batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from lit_prompt.functional.rows import matrix_product, matrix_times


class LowRankMatrix(NamedTuple):
    """The matrices ``diag(diagonal) - factor core^-1 factor^T``."""

    diagonal: Float64[Tensor, "row dim"]
    factor: Float64[Tensor, "row dim rank"]
    core: Float64[Tensor, "row rank rank"]

    @classmethod
    def sum_of_squares(cls, diagonal: Tensor, factor: Tensor) -> "LowRankMatrix":
        """``diag(diagonal) + factor factor^T``."""
        return cls(diagonal, factor, -torch.eye(factor.shape[2]).to(factor).expand(len(factor), -1, -1))

    def times(self, x: Float64[Tensor, "row dim k"]) -> Float64[Tensor, "row dim k"]:
        """Products with ``k`` vectors of each row."""
        inner = torch.linalg.solve(self.core, matrix_product(self.factor.mT, x))
        return x * self.diagonal.unsqueeze(2) - matrix_product(self.factor, inner)

    def inverse(self, shift: Float64[Tensor, "#row"]) -> Callable[[Tensor], Tensor]:
        """Products of vectors ``[row, dim]`` with the inverse of matrix plus ``shift`` times the identity.

        By the formula of Sherman, Morrison and Woodbury.
        """
        diagonal = self.diagonal + shift.unsqueeze(1)
        scaled = self.factor / diagonal.unsqueeze(2)
        core, pivots = torch.linalg.lu_factor(self.core - self.factor.mT @ scaled)

        def times(x: Tensor) -> Tensor:
            x = x / diagonal
            inner = torch.linalg.lu_solve(core, pivots, matrix_times(self.factor.mT, x).unsqueeze(2))
            return x + matrix_times(scaled, inner.squeeze(2))

        return times
