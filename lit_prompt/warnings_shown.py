"""How warnings are shown: a line each, whatever names they hold."""

import logging

from lit_prompt.results.text import visible


class _Lines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message in one line; a traceback keeps its own below it."""
        return visible(super().formatMessage(record))


def show_warnings() -> None:
    """Shows what is logged, and has no other place to go, as lines on stderr that steer no terminal."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Lines())
