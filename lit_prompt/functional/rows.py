"""Matrix products whose rows do not depend on how many there are."""

import torch
from torch import Tensor

# On CPU a matrix product with fewer rows than this takes another kernel, which rounds differently (measured with MKL:
# 12 rows or more give every row bit for bit the same result, fewer do not). Adam amplifies such differences to 1e-3
# nats within some hundred steps, so smaller batches are padded: a target's result must not depend on its company.
MIN_ROWS = 16


def pad_rows(x: Tensor, rows: int = MIN_ROWS) -> Tensor:
    """Repeats the first item, where there is one, until there are ``rows``: ``[item, ...]`` to ``[row, ...]``."""
    missing = rows - x.shape[0] if len(x) else 0
    return x if missing <= 0 else torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
