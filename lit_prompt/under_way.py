"""Folders of files under way: held by the process that writes them, swept when one that was killed has left them."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is held there, and nothing swept
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.lit_prompt-[0-9a-f]{16}")


@contextlib.contextmanager
def under_way(parent: Path) -> Iterator[Path]:
    """A new folder, beside what is to be written in it and moved to its place; it is gone at the end of the block.

    Those that nobody holds any more are removed.

    Args:
        parent: the folder that it is in.
    """
    _sweep(parent.absolute())
    folder = parent / f".lit_prompt-{secrets.token_hex(8)}"
    held = _held(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def temporary_folder(owner: object) -> Path:
    """A folder for temporary files, which goes with its owner."""
    stack = contextlib.ExitStack()
    folder = stack.enter_context(under_way(Path(tempfile.gettempdir())))
    weakref.finalize(owner, stack.close)
    return folder


def _held(folder: Path) -> int | None:
    """Makes a folder; gives the descriptor of its lock, which ends with the process at the latest."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        if fcntl is None:
            return None  # type: ignore[unreachable]
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # it was swept before it was locked, as it may be below
            continue
        with contextlib.suppress(OSError):  # a file system without locks: who sweeps there cannot lock it, either
            fcntl.flock(held, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), folder.stat()):
                return held
        os.close(held)


@cache  # once a process: the folder may hold thousands of files
def _sweep(parent: Path) -> None:
    for folder in parent.glob(".lit_prompt-*") if fcntl is not None else ():
        if _NAME.fullmatch(folder.name):
            with contextlib.suppress(OSError):  # another process holds it, or it is another user's
                found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(found)
