"""How far floors are, and when their time is up."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lit_prompt.progress import phase


class TimeBudget:
    """Seconds that may be spent on floors.

    Args:
        seconds: of all blocks of :meth:`spending` together; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._left = math.inf if seconds is None else seconds

    @contextmanager
    def spending(self) -> Iterator[Callable[[int], bool]]:
        """Gives what the solvers are to ask whether to go on."""
        started = time.monotonic()
        try:
            yield lambda left: time.monotonic() - started < self._left
        finally:
            self._left -= time.monotonic() - started


@contextmanager
def shown_progress(name: str, total: int, go_on: Callable[[int], bool]) -> Iterator[Callable[[int], bool]]:
    """Shows how many of some targets are done; gives a ``go_on`` that does so and asks the given one.

    A solver goes over the targets more than once, in rising precision: the bar is that of the first time.
    """
    done = 0
    with phase(name, "target", total) as tick:

        def watch(left: int) -> bool:
            nonlocal done
            more = max(0, total - left - done)
            done += more
            tick(more)
            return go_on(left)

        yield watch
