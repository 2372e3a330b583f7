"""``prompts.safetensors``: the best prompt of each target under its id, with what it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lit_prompt.errors import InputError
from lit_prompt.files import replaced_whole
from lit_prompt.records.versions import KEY, refuse_newer

_VERSION = 1

#: by target id: an embedding prompt is float32 ``[length, embedding]``, a token prompt int64 ``[length]``
Prompts = dict[str, NDArray[Any]]


def write_prompts(prompts: Prompts, about: Mapping[str, str], path: Path) -> Path:
    """Writes prompts, whole or not at all, with method, LM, what stands around them and settings; returns path."""
    with replaced_whole(path) as staging:
        save_file(prompts, staging, metadata={**about, KEY: str(_VERSION)})
    return path


def read_prompts(path: Path) -> tuple[Prompts, dict[str, str]]:
    """Prompts, and what they belong to.

    Raises:
        InputError: if the file cannot be read, or a newer lit_prompt wrote it.
    """
    try:
        with safe_open(str(path), "np") as file:
            about = file.metadata() or {}
            refuse_newer(path, about.get(KEY), _VERSION)
            return {target_id: file.get_tensor(target_id) for target_id in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
