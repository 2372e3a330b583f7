"""Descent in float32 that ends in float64."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lit_prompt.functional.row_descent import Descent

# float32 is left a little below the tolerance, so that the first float64 step is mostly the last
_FLOAT32_SHARE = 0.9
_ROUNDINGS = 50.0


def in_two_precisions(
    solve: Callable[[torch.dtype, Tensor, float, float], Descent], start: Tensor, tolerance: float, float32_gap: float
) -> Descent:
    """Comes near a solution with float32 products and ends with float64 ones, often by a single look.

    Args:
        solve: takes the dtype of the products, a start, a tolerance, and the relative error of the values.
        start: ``[item, dim]``, float64.
        tolerance: largest gap in the end.
        float32_gap: float32 products cannot tell smaller gaps from none.

    Returns:
        The last points, with gaps and values from float64 products.
    """
    enough = max(_FLOAT32_SHARE * tolerance, float32_gap)
    near = solve(torch.float32, start, enough, _ROUNDINGS * torch.finfo(torch.float32).eps)
    found = solve(torch.float64, near.point, tolerance, _ROUNDINGS * torch.finfo(torch.float64).eps)
    return replace(found, steps=near.steps + found.steps)
