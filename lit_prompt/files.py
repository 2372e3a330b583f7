"""Files that are complete or absent, and their names."""

import contextlib
import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from lit_prompt.errors import InputError

BYTE_ORDER_MARK = "\ufeff"


@contextlib.contextmanager
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


def add_file(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Adds a file under a name that is free: ``results.parquet``, else ``results-1.parquet`` and so on.

    It appears whole. Processes that add files of one name at the same time get a name each.

    Args:
        folder: of the file; it must exist.
        name: wanted.
        write: writes the file to a path of the same suffix.

    Returns:
        The file.
    """
    staging = folder / f".{secrets.token_hex(8)}{Path(name).suffix}"
    try:
        write(staging)
        path = _claimed(folder, name)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
    return path


def _claimed(folder: Path, name: str) -> Path:
    """The first path that no other process has, as an empty file."""
    for k in itertools.count():
        path = folder / (f"{Path(name).stem}-{k}{Path(name).suffix}" if k else name)
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise AssertionError


def refuse_utf16(path: Path, start: bytes) -> None:
    """Refuses a text that is UTF-16 or UTF-32, as some programs save it: every text here is UTF-8.

    Args:
        path: its file.
        start: what it begins with, 4 bytes or more.

    Raises:
        InputError: if it is.
    """
    # a mark of the byte order, or a zero in one of the first characters
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:4]:
        raise InputError(f"{path}: is UTF-16, not UTF-8 text; save it as UTF-8")


def newest(folder: Path, name: str) -> Path | None:
    """The last of ``results.parquet``, ``results-1.parquet``, ... in a folder; None if there is none."""
    stem, suffix = Path(name).stem, Path(name).suffix
    numbered = re.compile(rf"{re.escape(stem)}(?:-(\d+))?{re.escape(suffix)}")
    found = {int(match[1] or 0): path for path in folder.glob("*") if (match := numbered.fullmatch(path.name))}
    return found[max(found)] if found else None
