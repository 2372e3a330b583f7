"""Files of tensors as torch writes them: a zip archive that holds a checksum of each record."""

import io
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.files import write_whole


def write_tensors(state: object, path: Path) -> None:
    """Writes tensors and plain values, whole or not at all.

    Raises:
        InputError: if the disk is full.
    """
    import torch

    content = io.BytesIO()  # torch itself does not say why it cannot write to a disk
    torch.save(state, content)
    write_whole(path, content.getbuffer())


def load_tensors(path: Path, advice: str) -> Any:
    """Reads tensors and plain values to the CPU.

    Args:
        path: the file.
        advice: what the user can do where it is damaged.

    Raises:
        InputError: if it cannot be read, is truncated or no such file, or is not as it was written.
    """
    import torch

    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with zipfile.ZipFile(content) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError, RuntimeError) as error:
        raise InputError(f"{path} is truncated or no checkpoint ({error}); {advice}") from error
    if damaged is not None:
        raise InputError(f"{path}: its contents are not what was written (checksum of {damaged}); {advice}")
    content.seek(0)
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, or is damaged; it could run code and was not loaded: "
            f"{advice}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise InputError(f"{path} is damaged ({type(error).__name__}); {advice}") from error
