"""``config.yaml`` of a run: its last line, a comment, is the checksum of the others, and its first says so.

People change it by hand, on purpose: it is taken as it stands, but never without a word.
"""

import hashlib
from pathlib import Path

from lit_prompt.files import write_first, write_whole

_FIRST = b"# the last line is a checksum of the others\n"
_MARK = b"# checksum of the lines above (sha256) "


def write_config(path: Path, text: str) -> None:
    """Writes settings, whole or not at all.

    Raises:
        InputError: if the disk is full.
    """
    write_whole(path, _signed(text))


def claim_config(path: Path, text: str) -> str:
    """Writes settings unless there are some; returns those that are there.

    Raises:
        InputError: if the disk is full.
    """
    write_first(path, _signed(text))
    return path.read_text(encoding="utf-8")


def change_of(path: Path, content: bytes) -> str | None:
    """What is said of a config that is not as its run wrote it; None where it is, or names no checksum.

    Args:
        path: of it.
        content: what it holds.
    """
    above, mark, named = content.rpartition(_MARK)
    whole = named == _digest(above) + b"\n" if mark else not content.startswith(_FIRST)
    if whole:
        return None
    return f"{path}: was changed since its run wrote it, and is taken as it is now"


def _signed(text: str) -> bytes:
    content = _FIRST + text.encode()
    return content + _MARK + _digest(content) + b"\n"


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
