"""Files that are complete or absent, and their names."""

import os
import re
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


def free_path(folder: Path, name: str) -> Path:
    """A path that does not exist yet: ``folder/results.parquet``, else ``folder/results-1.parquet`` and so on."""
    path, k = folder / name, 0
    while path.exists():
        k += 1
        path = folder / f"{Path(name).stem}-{k}{Path(name).suffix}"
    return path


def newest(folder: Path, name: str) -> Path | None:
    """The last of ``results.parquet``, ``results-1.parquet``, ... in a folder; None if there is none."""
    stem, suffix = Path(name).stem, Path(name).suffix
    numbered = re.compile(rf"{re.escape(stem)}(?:-(\d+))?{re.escape(suffix)}")
    found = {int(match[1] or 0): path for path in folder.glob("*") if (match := numbered.fullmatch(path.name))}
    return found[max(found)] if found else None
