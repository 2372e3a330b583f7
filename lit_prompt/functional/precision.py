"""Where float64 is made."""

from torch import Tensor


def double(x: Tensor) -> Tensor:
    """A tensor as float64 on the CPU, whatever its device and dtype.

    Everything that needs float64 comes through here: Apple's GPUs have none, and on most others it is slow.
    """
    return x.cpu().double()
