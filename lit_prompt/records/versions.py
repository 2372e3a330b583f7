"""Versions of file formats."""

from pathlib import Path

from lit_prompt.errors import InputError

#: key in a file's metadata
KEY = "format"


def refuse_newer(path: Path, written: str | None, known: int) -> None:
    """Refuses a file whose format is newer than the one that is read here.

    Args:
        path: the file.
        written: what its metadata say; None for a file of the time before formats had versions.
        known: the version that is read here.

    Raises:
        InputError: if it is newer.
    """
    if written is not None and written.isdecimal() and int(written) > known:
        raise InputError(f"{path} was written by a newer lit_prompt (format {written}; this one reads up to {known})")
