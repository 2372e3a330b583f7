"""What phases that last show while they last: no silence, whatever the phase waits for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tqdm import tqdm

from lit_prompt.results.text import visible

#: Seconds between two looks at a bar: a terminal gets a moving one, a log file a line now and then.
REFRESH_SECONDS = 0.1 if sys.stderr.isatty() else 10.0
#: Seconds between two beats of a bar that nothing else moves.
BEAT_SECONDS = 1.0 if sys.stderr.isatty() else 10.0


_hidden = False


def hide_progress() -> None:
    """Shows no progress from here on: of several processes the first shows it."""
    global _hidden
    _hidden = True


@contextmanager
def beating(redraw: Callable[[], object]) -> Iterator[None]:
    """Redraws a bar about once a second, from a thread of its own, so that its clock goes on while a step lasts."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            redraw()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def phase(name: str, unit: str = "", total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows a phase that lasts longer than a second, and how far it is.

    Args:
        name: what is done.
        unit: what is counted, in the singular; empty where nothing is.
        total: of them; None if unknown.

    Yields:
        What is to be told how many more of them are done.
    """
    counted = f": {{n_fmt}} {unit}s" if unit else ""
    form = "{desc}" + counted + " [{elapsed}]" if total is None else None
    bar = tqdm(
        total=total, desc=visible(name), unit=unit, bar_format=form, leave=False, file=sys.stderr, delay=BEAT_SECONDS,
        mininterval=REFRESH_SECONDS, disable=_hidden,
    )  # fmt: skip
    with bar, beating(bar.refresh):
        yield bar.update
