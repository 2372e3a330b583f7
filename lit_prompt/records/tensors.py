"""Files of tensors as torch writes them: a zip archive, whose comment at its very end is the checksum of all before it.

The archive's own checksums are of its records' contents alone, and not of where they are, what they are called and how
they are to be unpacked.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.files import write_whole
from lit_prompt.records.checksum import refuse_changed

#: Begins the comment; the SHA-256 of every byte of the file up to here follows, in hexadecimal digits.
_MARK = b"lit_prompt sha256 "
_DIGITS = 64
_COMMENT = len(_MARK) + _DIGITS
#: Begins the last 22 bytes of an archive that has no comment; the last two of them are its length.
_END, _END_SIZE = b"PK\5\6", 22


def write_tensors(state: object, path: Path) -> None:
    """Writes tensors and plain values, whole or not at all.

    Raises:
        InputError: if the disk is full.
    """
    write_whole(path, tensor_bytes(state))


def tensor_bytes(state: object) -> memoryview:
    """The content of a file of tensors and plain values."""
    import torch

    content = io.BytesIO()  # torch itself does not say why it cannot write to a disk
    torch.save(state, content)
    content.seek(-2, io.SEEK_END)
    content.write(_COMMENT.to_bytes(2, "little") + _MARK)
    content.write(hashlib.sha256(content.getbuffer()).hexdigest().encode())
    return content.getbuffer()


def load_tensors(path: Path, advice: str) -> Any:
    """Reads tensors and plain values to the CPU.

    Args:
        path: the file.
        advice: what the user can do where it is damaged.

    Raises:
        InputError: if it cannot be read, is truncated or no such file, or is not as it was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return tensors_in(content, path, advice)


def tensors_in(content: bytes, path: Path, advice: str) -> Any:
    """Tensors and plain values in the content of a file; as of :func:`load_tensors`."""
    import torch

    if content[-_COMMENT:-_DIGITS] == _MARK:
        found = hashlib.sha256(memoryview(content)[:-_DIGITS]).hexdigest()
        refuse_changed(path, content[-_DIGITS:].decode("latin-1"), found, advice)
    else:
        _refuse_damaged_records(path, content, advice)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, or is damaged; it could run code and was not loaded: "
            f"{advice}"
        ) from error
    except MemoryError as error:
        raise InputError(f"{path} is damaged, or takes more memory than there is; {advice}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise InputError(f"{path} is damaged ({type(error).__name__}); {advice}") from error


def _refuse_damaged_records(path: Path, content: bytes, advice: str) -> None:
    """Checks an archive of a former version, which has no comment, by the checksums of its records."""
    try:
        if content[-_END_SIZE:][:4] != _END or content[-2:] != b"\0\0":
            raise zipfile.BadZipFile("it has no end")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise zipfile.BadZipFile("compressed records")
            damaged = archive.testzip()
    except Exception as error:  # what is damaged asks for anything
        why = " ".join(str(error).split())
        raise InputError(f"{path} is truncated or no checkpoint ({why}); {advice}") from error
    if damaged is not None:
        raise InputError(f"{path}: its contents are not what was written (checksum of {damaged!r}); {advice}")
