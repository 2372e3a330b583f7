"""One readable line for everything that a user can mend."""

import difflib
import errno
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager

from lit_prompt.errors import InputError

_EXIT_USER = 2
_EXIT_INTERRUPTED = 130


@contextmanager
def shown_errors() -> Iterator[None]:
    """Prints the user's mistakes as one line and exits with code 2; other errors keep their traceback.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C.
    """
    try:
        yield
    except InputError as error:
        _exit(str(error), _EXIT_USER)
    except ArgumentError as error:
        _exit(_parser_message(error), _EXIT_USER)
    except KeyboardInterrupt:
        _exit("Interrupted.", _EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        _exit(f"{error.filename or 'output'}: {error.strerror}; what was saved before is whole", _EXIT_USER)
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            _exit(str(error), _EXIT_INTERRUPTED)
        if type(error).__name__ == "MisconfigurationException":
            _exit(" ".join(str(error).split()), _EXIT_USER)
        raise


def _exit(message: str, code: int) -> None:
    prefix = "" if code == _EXIT_INTERRUPTED else "lit_prompt: error: "
    print(f"{prefix}{message}", file=sys.stderr)
    raise SystemExit(code)


def _parser_message(error: ArgumentError) -> str:
    return str(error)
