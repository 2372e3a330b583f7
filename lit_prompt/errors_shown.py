"""One readable line for everything that a user can mend."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from lit_prompt.errors import InputError, Interrupted

_EXIT_USER = 2
_EXIT_INTERRUPTED = 130
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


@contextmanager
def shown_errors() -> Iterator[None]:
    """Prints the user's mistakes as one line and exits with code 2; other errors keep their traceback.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C.
    """
    try:
        yield
    except InputError as error:
        _exit(f"lit_prompt: error: {error}", _EXIT_USER)
    except ValueError as error:
        # the parser wraps what a class says of its settings
        cause = error.__cause__
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        _exit(f"lit_prompt: error: {cause}", _EXIT_USER)
    except Interrupted as stop:
        _exit(str(stop), _EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _exit("Interrupted.", _EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "writing"
        _exit(f"lit_prompt: error: {where}: {error.strerror}; what was saved before is whole", _EXIT_USER)


def _exit(message: str, code: int) -> NoReturn:
    print(f"\n{message}" if code == _EXIT_INTERRUPTED else message, file=sys.stderr)
    raise SystemExit(code)
