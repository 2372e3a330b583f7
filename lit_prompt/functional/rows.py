"""Batches in which a row's result does not depend on the other rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# On CPU a matrix product with fewer rows than this takes another kernel, which rounds differently (measured with MKL:
# 12 rows or more give every row bit for bit the same result, fewer do not). Adam amplifies such differences to 1e-3
# nats within some hundred steps, so smaller batches are padded.
MIN_ROWS = 16
# kernels for float64 take rows by so many and treat the last ones otherwise
_DOUBLE_ROWS = 8


def pad_rows(x: Tensor, rows: int | None = None) -> Tensor:
    """Repeats the first item, where there is one, until there are ``rows``: ``[item, ...]`` to ``[row, ...]``.

    By default there are as many as a product with a matrix needs: 16 or more, in float64 a multiple of eight.
    """
    if rows is None:
        step = _DOUBLE_ROWS if x.dtype == torch.float64 else 1
        rows = max(MIN_ROWS, -(-len(x) // step) * step)
    missing = rows - x.shape[0] if len(x) else 0
    return x if missing <= 0 else torch.cat([x, x[:1].expand(missing, *x.shape[1:])])


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """Products of two matrices of each row, ``[row, i, j]`` and ``[row, j, k]``.

    A row that is alone would take another kernel, too, where ``k`` is 1, so it gets company.
    """
    if len(b) == 1:
        return torch.bmm(a.expand(2, -1, -1), b.expand(2, -1, -1))[:1]
    return torch.bmm(a, b)


def matrix_times(matrix: Tensor, x: Tensor) -> Tensor:
    """Products of a matrix ``[row, a, b]`` and a vector ``[row, b]`` of each row: ``[row, a]``."""
    return matrix_product(matrix, x.unsqueeze(2)).squeeze(2)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread of the CPU; also a decorator.

    For operations that fit a core's cache: threads that wait for one another there take longer than one alone, on a
    busy machine a hundred times longer. And torch splits the sum over a long row between threads only where the row
    is alone. The split rounds differently, so that a result would depend on whether there are other rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
