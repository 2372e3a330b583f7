"""What torch has saved, read so that nothing in it can run."""

import pickle
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError

_ADVICE = "take another one or search again"


def load_tensors(path: Path, mmap: bool = False) -> dict[str, Any]:
    """Reads names and tensors, on the CPU.

    Args:
        path: of the file.
        mmap: leave the tensors' numbers on the disk until they are asked for.

    Raises:
        InputError: if it is damaged, or holds what only running its code would make.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors and plain values, or is damaged; it could run code and was not loaded: "
            f"{_ADVICE}"
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes ask for
        raise InputError(f"{path} is damaged; {_ADVICE}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no checkpoint of lit_prompt; {_ADVICE}")
    return content
