"""Files that are complete or absent, and their names."""

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError, full_disk, is_full_disk
from lit_prompt.under_way import under_way

BYTE_ORDER_MARK = "\ufeff"


class _FullDisk(InputError):
    """A disk is full; who writes a file by way of another names the one that is meant."""

    def __init__(self, message: str, needs: str) -> None:
        super().__init__(message)
        self.needs = needs


@contextlib.contextmanager
def replaced_whole(path: Path, size: int | None = None) -> Iterator[Path]:
    """A path beside ``path`` to write to; the file takes its place in one move at the end of the block.

    After an error in the block ``path`` is as it was, and nothing is left beside it.

    Args:
        path: of the file.
        size: bytes that it takes, where that is known.

    Raises:
        InputError: if the disk is full.
    """
    with under_way(path.parent) as folder, full_disk_named(path, folder, size):
        yield folder / path.name
        os.replace(folder / path.name, path)


def write_whole(path: Path, content: Any) -> None:
    """Writes bytes to a file, whole or not at all.

    Raises:
        InputError: if the disk is full.
    """
    with replaced_whole(path, len(content)) as staging:
        staging.write_bytes(content)


def write_first(path: Path, content: Any) -> None:
    """Writes bytes to a file unless there is one: of processes that do so at the same time one wins.

    Raises:
        InputError: if the disk is full.
    """
    if path.exists():
        return
    with under_way(path.parent) as folder, full_disk_named(path, folder, len(content)):
        (folder / path.name).write_bytes(content)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(folder / path.name, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                os.replace(folder / path.name, path)


def as_opened(path: Path) -> None:
    """Gives a file the permissions of one that Python opens; one that safetensors writes is for its owner alone."""
    opened = path.with_name(f"{path.name}.opened")
    opened.touch()
    shutil.copymode(opened, path)
    opened.unlink()


def add_together(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    """Adds files that belong together, each under a name that is free: all of them, or none.

    All are written before the first one appears; they appear in their order. Processes that add files of one name at
    the same time get a name each.

    Args:
        folder: of the files; it must exist.
        files: by the name that is wanted what writes each to a path of the same suffix.

    Returns:
        The files: ``results.parquet``, else ``results-1.parquet`` and so on.

    Raises:
        InputError: if the disk is full.
    """
    placed: list[Path] = []
    with under_way(folder) as staging:
        try:
            for name, write in files.items():
                with full_disk_named(folder / name, staging):
                    write(staging / name)
            for name in files:
                with full_disk_named(folder / name, staging):
                    placed.append(_placed(staging / name, folder, name))
        except BaseException:
            for path in placed:
                path.unlink(missing_ok=True)
            raise
    return placed


def add_file(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    """Adds a file under a name that is free, as :func:`add_together` adds several."""
    return add_together(folder, {name: write})[0]


@contextlib.contextmanager
def full_disk_named(path: Path, staging: Path, size: int | None = None) -> Iterator[None]:
    """Says of a full disk which file, or folder, could not be written, and how much it takes.

    Args:
        path: that is to be written.
        staging: the folder that it is written in for now; it is removed, so that what is free is what was before.
        size: bytes that it takes, where that is known.

    Raises:
        InputError: if the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        needs = error.needs if isinstance(error, _FullDisk) else None if size is None else f"it takes {size} bytes, "
        if needs is None:
            begun = [file for file in staging.rglob("*") if file.is_file()]
            mine = [file for file in begun if file.name == path.name] or begun
            size = sum(file.stat().st_size for file in mine)
            needs = f"it takes more than {size} bytes, " if size else ""
        shutil.rmtree(staging, ignore_errors=True)
        raise _FullDisk(f"{path}: {full_disk(path.parent, needs)}", needs) from error


def _placed(staging: Path, folder: Path, name: str) -> Path:
    """Gives a file the first name that is free, which no other process can then take."""
    for k in itertools.count():
        path = folder / (f"{Path(name).stem}-{k}{Path(name).suffix}" if k else name)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(staging, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                path.touch(exist_ok=False)
                try:
                    os.replace(staging, path)
                except BaseException:
                    path.unlink()
                    raise
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
    return next(iter(numbered(folder, name)), None)


def numbered(folder: Path, name: str) -> list[Path]:
    """All of ``results.parquet``, ``results-1.parquet``, ... in a folder, the last one first."""
    stem, suffix = Path(name).stem, Path(name).suffix
    pattern = re.compile(rf"{re.escape(stem)}(?:-(\d+))?{re.escape(suffix)}")
    found = {int(match[1] or 0): path for path in folder.glob("*") if (match := pattern.fullmatch(path.name))}
    return [found[number] for number in sorted(found, reverse=True)]
