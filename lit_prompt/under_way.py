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
# in such a folder: names beside it of what its process has opened
_OPENED = "opened"


@contextlib.contextmanager
def under_way(parent: Path) -> Iterator[Path]:
    """A new folder, beside what is to be written in it and moved to its place; it is gone at the end of the block.

    Those that nobody holds any more are removed.

    Args:
        parent: the folder that it is in.
    """
    sweep(parent)
    folder = parent / f".lit_prompt-{secrets.token_hex(8)}"
    held = None
    try:
        held = _held(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Notes beside a folder that this process writes in it, or below, until the end of the block.

    If the process is killed, whoever opens this folder or another beside it sweeps all that was under way in it. Where
    nothing can be written beside it, what is under way is swept by who writes in the same place alone.

    Args:
        folder: which exists.
    """
    folder = folder.resolve()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            note = stack.enter_context(under_way(folder.parent))
            (note / _OPENED / folder.name).mkdir(parents=True)
        yield


def sweep(parent: Path) -> None:
    """Removes what is under way in a folder, once a process, where nobody holds it any more."""
    _sweep(parent.absolute())


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
        _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    if not _NAME.fullmatch(folder.name):
        return
    with contextlib.suppress(OSError):  # another process holds it, or it is another user's
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for note in (folder / _OPENED).glob("*"):
                if not (left := folder.parent / note.name).is_symlink():
                    _sweep_below(left)
            shutil.rmtree(folder)
        finally:
            os.close(found)


def _sweep_below(folder: Path) -> None:
    """Sweeps all that a killed process has left in a folder that it had opened."""
    for place, names, _ in os.walk(folder):
        for name in [name for name in names if name.startswith(".lit_prompt-")]:
            names.remove(name)
            _sweep_one(Path(place, name))
