"""Ctrl-C and SIGTERM: they end a command at once or, where that would lose something, as soon as it would not."""

import atexit
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds that compiled code may take before a signal does not wait for it.
_PATIENCE = 1.5


class Interrupted(BaseException):
    """A signal ends the command.

    No ``Exception``, as libraries catch those, and no ``KeyboardInterrupt``, which Lightning would end with code 1.

    Attributes:
        code: the exit code, 130 after Ctrl-C and 143 after SIGTERM.
        advice: how to go on; None where the same command is to be given again.
        kept: what is said of what it has done, where there is no advice.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number
        self.advice: str | None = None
        self.kept = "what was finished is kept"

    def last_line(self, command: str) -> str:
        """What is said at the end of a command."""
        return self.advice or f"Interrupted; {self.kept}. Begin again with: {command}"


@dataclass
class _State:
    held: bool = False
    pending: int | None = None  # a signal that waits
    heard: float = -math.inf  # when Python was last told of one


_state = _State()


def take_signals() -> dict[int, Any]:
    """Lets SIGINT and SIGTERM raise :class:`Interrupted`; returns the handlers before.

    Only the main thread may do so; in others nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, _on_signal) for number in SIGNALS}


def give_back(handlers: dict[int, Any]) -> None:
    """Undoes :func:`take_signals`, given what it returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.heard = time.monotonic()
    _state.pending = number
    if not _state.held:
        stop_if_asked()


def stop_if_asked() -> None:
    """Raises :class:`Interrupted` if a signal has waited."""
    number, _state.pending = _state.pending, None
    if number is not None:
        raise Interrupted(number)


def hold() -> None:
    """From here on signals wait for :func:`stop_if_asked`, :func:`interruptible` or :func:`release`."""
    _state.held = True


def release() -> None:
    """Ends :func:`hold`; a signal that has waited still does."""
    _state.held = False


@contextmanager
def held() -> Iterator[None]:
    """Lets signals wait until the end of the block, which must not be cut."""
    was, _state.held = _state.held, True
    try:
        yield
    finally:
        _state.held = was
    if not was:
        stop_if_asked()


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets signals end the block, which leaves no trace where it is cut, wherever it is."""
    was, _state.held = _state.held, False
    try:
        stop_if_asked()
        yield
    finally:
        _state.held = was


def ignore_signals() -> None:
    """A command that ends already is not to be ended again."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_at_once(code: int) -> NoReturn:
    """Ends the process without freeing its memory piece by piece, which takes seconds where an LM is in it.

    What was registered for the end of the process is done.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


@contextmanager
def signals_taken(command: str) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end a command, even where compiled code keeps Python from hearing them."""
    handlers = take_signals()
    if not handlers:
        yield
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    wakeup = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ours, command), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        pythons.close()
        if signal.getsignal(signal.SIGINT) is _on_signal:  # else they are ignored, as the process ends
            give_back(handlers)


def _watch(signals: socket.socket, command: str) -> None:
    """Ends the process itself when a signal is not heard in time, unless signals are held."""
    with signals:
        while number := signals.recv(1):
            sent = time.monotonic()
            time.sleep(_PATIENCE)
            if number[0] in SIGNALS and _state.heard < sent - _PATIENCE and not _state.held:
                stop = Interrupted(number[0])
                print(f"\n{stop.last_line(command)}", file=sys.stderr, flush=True)
                os._exit(stop.code)
