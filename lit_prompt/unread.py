"""Output that nobody reads any more, as of ``lit_prompt --help | head -3``."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def unread_output() -> Iterator[None]:
    """Ends the process without a word where the pipe that it writes to is closed, as other commands end.

    Raises:
        SystemExit: with code 141.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
        if not closed:
            raise
        for stream in closed:  # what is still to be written goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _is_closed(stream: TextIO) -> bool:
    asked = select.poll()
    asked.register(stream.fileno(), 0)
    return bool(asked.poll(0))  # an error or a hang-up, as nothing else was asked for
