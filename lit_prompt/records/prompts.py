"""``prompts.safetensors``: the best prompt of each target under its id, with what it belongs to; and their texts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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


def write_texts(prompts: Iterable[tuple[str, str, Sequence[int]]], path: Path) -> Path:
    """Writes target id, text and token ids of prompts, a line of JSON each, whole or not at all; returns path."""
    with replaced_whole(path) as staging, staging.open("w", encoding="utf-8") as file:
        for target_id, text, ids in prompts:
            row = {"target_id": target_id, "text": text, "ids": list(ids)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def read_texts(path: Path) -> dict[str, str]:
    """The texts of prompts by target id, as :func:`write_texts` has written them.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return {row["target_id"]: row["text"] for row in map(json.loads, file)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: these are no prompts that a fit or a test has written ({error})") from error


def same_prompts(path: Path, prompts: Prompts, about: Mapping[str, str]) -> bool:
    """Whether a file holds these very prompts, of the same origin; False for one that cannot be read."""
    try:
        found, origin = read_prompts(path)
    except InputError:
        return False
    same = found.keys() == prompts.keys() and all(np.array_equal(found[name], prompts[name]) for name in prompts)
    return same and {**about, KEY: str(_VERSION)} == origin


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
