"""Signals in every phase of every command, in real processes: the code, one line, no litter.

``python -m tests.faults.signals --signals 200`` prints a table; the suite tries some.
"""

import math
import os
import random
import signal
import time
from pathlib import Path

from tests.faults.commands import Try, show
from tests.faults.payloads import LM
from tests.faults.workplace import COMMANDS, Workplace, in_turn, workplace

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def _try(place: Workplace, kind: str, words: tuple[str, ...], number: signal.Signals, at: float) -> Try:
    """Sends a command a signal after ``at`` seconds."""
    what = f"{number.name} after {at:.2f} s of {' '.join(words)}"
    place.clear()
    pid = place.start(*words)
    if (code := place.ended_within(pid, at)) is not None:
        said = place.said
        return Try(kind, what, "had ended", said[-500:] if code or "Interrupted" in said else "")
    sent = time.monotonic()
    os.kill(pid, number)
    try:
        code = place.wait(pid)
    except TimeoutError as error:
        return Try(kind, what, "interrupted", str(error))
    took = time.monotonic() - sent
    if code == 0 and not place.last_line.startswith("Interrupted"):  # it had ended when the signal came
        return Try(kind, what, "had ended")
    wrong = [] if code == _CODES[number] else [f"code {code}"]
    wrong += [] if place.last_line.startswith("Interrupted") else [f"said {place.said[-300:]!r}"]
    wrong += ["a traceback"] if "Traceback" in place.said else []
    wrong += [f"left {path}" for path in place.litter]
    wrong += [f"took {took:.1f} s"] if took > 10 else []
    return Try(kind, what, "interrupted", "; ".join(wrong))


def duration(place: Workplace, words: tuple[str, ...]) -> float:
    """Seconds that a command takes.

    Raises:
        RuntimeError: if it fails.
    """
    began = time.monotonic()
    tried = _try(place, "", words, signal.SIGTERM, math.inf)
    if tried.violation:
        raise RuntimeError(f"{' '.join(words)}: {tried.violation}")
    return time.monotonic() - began


def campaign(count: int, seed: int = 0, lm: Path = LM, kinds: tuple[str, ...] = tuple(COMMANDS)) -> list[Try]:
    """Sends ``count`` signals, in turn to each command, at random moments.

    Args:
        count: of signals.
        seed: of the draw.
        lm: a small LM.
        kinds: rows of :data:`COMMANDS`.
    """
    draw = random.Random(seed)
    with workplace(lm) as place:
        tries, lasts = [], {}
        for kind, words in in_turn(count, kinds):
            if words not in lasts:
                lasts[words] = duration(place, words)
            number = draw.choice(list(_CODES))
            tries.append(_try(place, kind, words, number, draw.random() * lasts[words]))
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "signals", 200)
