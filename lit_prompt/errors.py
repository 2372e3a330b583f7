"""The exceptions that are shown to a user as a single line, and the showing."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from lit_prompt.interruption import Interrupted, ignore_signals
from lit_prompt.results.text import visible

_EXIT_USER = 2
# a full disk, a forbidden place, a folder or a file where the other is to be written
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR)


class InputError(Exception):
    """Something the user can mend: a file, a key, a value or the machine's limits.

    The message is one line that names the file, line or key and says what to do. The command line prints it without a
    traceback and exits with code 2.
    """


@contextmanager
def shown_errors(command: str) -> Iterator[None]:
    """Prints the user's mistakes as one line and exits with code 2; other errors keep their traceback.

    Args:
        command: what was typed.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        yield
    except (InputError, ValueError) as error:
        # the settings' parser wraps what a class says of its settings in a ValueError
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        _exit(f"lit_prompt: error: {cause}", _EXIT_USER)
    except Interrupted as stop:
        ignore_signals()
        print(file=sys.stderr)  # a bar may stand in the line
        _exit(stop.last_line(command), stop.code)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "writing"
        _exit(f"lit_prompt: error: {where}: {error.strerror}; what was saved before is whole", _EXIT_USER)


def _exit(line: str, code: int) -> NoReturn:
    print(visible(line), file=sys.stderr)
    raise SystemExit(code)
