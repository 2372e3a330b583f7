"""Work that is too small for several threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread of the CPU; also a decorator.

    For operations that fit a core's cache: threads that wait for one another there take longer than one alone, on a
    busy machine a hundred times longer. And torch splits the sum over a long row between threads only where the row
    has no company. The split rounds otherwise, so that an item would depend on whether it is alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
