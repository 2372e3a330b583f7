"""``prompts.safetensors``: the best prompt of each target under its id, with what it belongs to."""

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lit_prompt.errors import InputError
from lit_prompt.files import as_opened, numbered, replaced_whole
from lit_prompt.records.checksum import CHECKSUM, arrays_digest, refuse_changed
from lit_prompt.records.versions import KEY, refuse_newer

_VERSION = 2  # 1 had no checksum
_ADVICE = "lit_prompt test --run RUN writes the run's prompts again from its checkpoint"

#: Key of what prompts belong to: of mixtures the weights of their prompts by target id, as JSON.
WEIGHTS = "weights"

#: by target id: an embedding prompt is float32 ``[length, embedding]``, a token prompt int64 ``[length]``;
#: a mixture ``[component, ...]``, prompts that have left it (with the weight 0) included
Prompts = dict[str, NDArray[Any]]


def prompts_digest(prompts: Prompts, about: Mapping[str, str]) -> str:
    """The checksum that a file of prompts carries: results name it, as numbers of these very prompts."""
    return arrays_digest(prompts, {**about, KEY: str(_VERSION)})


def write_prompts(prompts: Prompts, about: Mapping[str, str], path: Path) -> Path:
    """Writes prompts, whole or not at all, with method, LM, what stands around them and settings; returns path."""
    metadata = {**about, KEY: str(_VERSION), CHECKSUM: prompts_digest(prompts, about)}
    with replaced_whole(path, sum(prompt.nbytes for prompt in prompts.values())) as staging:
        save_file(prompts, staging, metadata=metadata)
        as_opened(staging)
    return path


def read_prompts(path: Path) -> tuple[Prompts, dict[str, str]]:
    """Prompts, and what they belong to.

    Raises:
        InputError: if the file cannot be read, is not as it was written, or a newer lit_prompt wrote it.
    """
    try:
        with safe_open(str(path), "np") as file:
            about = file.metadata() or {}
            refuse_newer(path, about.get(KEY), _VERSION)
            prompts = {target_id: file.get_tensor(target_id) for target_id in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if CHECKSUM in about or about.get(KEY) == str(_VERSION):
        refuse_changed(path, about.get(CHECKSUM), arrays_digest(prompts, about), _ADVICE)
    return prompts, about


def paired_prompts(run: Path, results: Path, checksum: str | None) -> Path | None:
    """The file of a run's prompts that results are of.

    Args:
        run: the run's folder.
        results: the file that names them.
        checksum: of the prompts; None where a former version wrote the results.

    Returns:
        The file; None where the results name none.

    Raises:
        InputError: if the run has no such file.
    """
    if checksum is None:
        return None
    for path in numbered(run, "prompts.safetensors"):
        with contextlib.suppress(OSError, SafetensorError), safe_open(str(path), "np") as file:
            if (file.metadata() or {}).get(CHECKSUM) == checksum:
                return path
    raise InputError(
        f"{results}: the prompts that these numbers are of are not in {run} (no prompts*.safetensors has their "
        f"checksum); bring them back, or evaluate again with lit_prompt test --run {shlex.quote(str(run))}"
    )
