"""Versions of file formats."""

from pathlib import Path

from lit_prompt.errors import InputError

#: key in a file's metadata
KEY = "format"


def refuse_newer(path: Path, written: str | None, known: int) -> None:
    """Raises InputError if the version in a file's metadata (None: older than versions) is newer than the known one."""
    if written is not None and written.isdecimal() and int(written) > known:
        raise InputError(f"{path} was written by a newer lit_prompt (format {written}; this one reads up to {known})")
