"""Files that are whole or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; the file takes its place in one move at the end of the block.

    After an error in the block ``path`` is as it was, and nothing is left beside it.
    """
    staging = path.with_name(f".{secrets.token_hex(8)}.part")  # two processes may write one file
    try:
        yield staging
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
