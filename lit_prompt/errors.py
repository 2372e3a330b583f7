"""The exceptions that are shown to a user as a single line, and the showing."""

import errno
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from lit_prompt.interruption import Interrupted, ignore_signals
from lit_prompt.results.text import visible

_EXIT_USER = 2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# a forbidden place, a folder or a file where the other is to be written
_DISK_ERRORS = (*_FULL, errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR)


class InputError(Exception):
    """Something the user can mend: a file, a key, a value or the machine's limits.

    The message is one line that names the file, line or key and says what to do. The command line prints it without a
    traceback and exits with code 2.
    """


_process = 0


def name_process(number: int) -> None:
    """Lets errors name this process: it is not the first of several."""
    global _process
    _process = number


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error came of a full disk or quota: libraries wrap what the system says in errors of their own."""
    while error is not None:
        said = str(error)
        if getattr(error, "errno", None) in _FULL or any(os.strerror(number) in said for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk(folder: Path, needs: str = "") -> str:
    """What is said of a full disk or quota: what is ``needs`` and what is free where a folder is."""
    try:
        free = f"{shutil.disk_usage(folder).free} are free"
    except OSError:
        free = "none are free"
    advice = "what was saved before is whole; make room and run the command again"
    return f"the disk is full or limited ({needs}{free}); {advice}"


def mistake_in(error: BaseException | None) -> InputError | None:
    """The mistake that an error came of: the settings' parser wraps what a class says of its settings in others."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


@contextmanager
def shown_errors(command: str) -> Iterator[None]:
    """Prints the user's mistakes as one line and exits with code 2; other errors keep their traceback.

    Args:
        command: what was typed.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C, 143 after SIGTERM.
    """
    threading.excepthook = _thread_failed
    try:
        yield
    except (InputError, ValueError) as error:
        if (cause := mistake_in(error)) is None:
            raise
        _exit(f"lit_prompt: error: {cause}", _EXIT_USER)
    except Interrupted as stop:
        ignore_signals()
        print(file=sys.stderr)  # a bar may stand in the line
        _exit(stop.last_line(command), stop.code)
    except Exception as error:
        name = getattr(error, "filename", None)
        if is_full_disk(error):
            folder = Path(tempfile.gettempdir()) if name is None else Path(os.fsdecode(name)).parent
            _exit(f"lit_prompt: error: {name or 'writing'}: {full_disk(folder)}", _EXIT_USER)
        if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
            raise
        _exit(f"lit_prompt: error: {name or 'writing'}: {error.strerror}; what was saved before is whole", _EXIT_USER)
    finally:
        threading.excepthook = threading.__excepthook__


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Says nothing of a full disk: who waits for the thread, TensorBoard's writer, raises the same error."""
    if not is_full_disk(failure.exc_value):
        threading.__excepthook__(failure)


def _exit(line: str, code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        sys.stdout.flush()  # the end of a bar's line, say, where both go to one file
    if _process:
        line = line.replace("lit_prompt: error:", f"lit_prompt: error in process {_process}:")
    if code <= _EXIT_USER or not _process:  # of several processes that are stopped the first says so
        print(visible(line), file=sys.stderr)
    raise SystemExit(code)
