"""The exceptions that are shown to a user as a single line, and the showing."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_EXIT_USER = 2
_EXIT_INTERRUPTED = 130
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


class InputError(Exception):
    """Something the user can mend: a file, a key, a value or the machine's limits.

    The message is one line that names the file, line or key and says what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class Interrupted(Exception):
    """The user stopped the fit; everything done so far is in the checkpoint. The message says how to resume."""


@contextmanager
def shown_errors() -> Iterator[None]:
    """Prints the user's mistakes as one line and exits with code 2; other errors keep their traceback.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C.
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
        _exit(f"\n{stop}", _EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _exit("\nInterrupted.", _EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "writing"
        _exit(f"lit_prompt: error: {where}: {error.strerror}; what was saved before is whole", _EXIT_USER)


def _exit(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)
