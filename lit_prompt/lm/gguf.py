"""GGUF files: read once by transformers, kept as folders that load in seconds."""

import hashlib
import logging
import mmap
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.files import as_opened
from lit_prompt.lm.weights import refuse_mismatch, silence_report
from lit_prompt.under_way import under_way

_log = logging.getLogger(__name__)


def gguf_parts(lm: str) -> tuple[str | None, str] | None:
    """Hub id (None for a local file) and file of ``hub-id:model.gguf`` or ``folder/model.gguf``; None for other LMs."""
    if not lm.lower().endswith(".gguf"):
        return None
    hub_id, separator, file = lm.rpartition(":")
    return (hub_id, file) if separator and not Path(lm).exists() else (None, lm)


@cache
def unpacked(lm: str, revision: str, local_files_only: bool) -> Path:
    """Folder of the LM in a GGUF file, its weights dequantised to float32.

    Transformers takes a minute or more to read such a file, most of it for the tokens' names. So the folder is kept in
    the hub's cache, under the SHA-256 of the file.

    Args:
        lm: as of :func:`gguf_parts`.
        revision: of the hub's repository.
        local_files_only: whether the hub is not to be asked.

    Raises:
        InputError: if there is no such file, or the folder cannot be written.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HOME

    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        raise InputError(f"--lm: reading {lm} needs {' and '.join(missing)}: pip install 'lit_prompt[gguf]'")
    hub_id, file = gguf_parts(lm) or (None, lm)
    if hub_id is not None:
        path = Path(hf_hub_download(hub_id, file, revision=revision, local_files_only=local_files_only))
    elif not (path := Path(file).expanduser()).is_file():
        raise InputError(f"--lm: no file {lm}; give a GGUF file, a folder that holds an LM, or a hub id")
    with path.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        digest = hashlib.sha256(whole).hexdigest()[:16]
    folder = Path(HF_HOME) / "lit_prompt" / f"{path.stem}-{digest}"
    if not folder.exists():
        _log.warning("reading %s; this is done once, what it holds is kept in %s", path, folder)
        _unpack(path, folder)
    return folder


def _unpack(path: Path, folder: Path) -> None:
    """Writes the folder, whole or not at all."""
    import transformers

    silence_report()
    options: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**options)
    if hasattr(transformers, "GgufConfig"):  # transformers before 5.2x dequantises in any case
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        **options, dtype="float32", output_loading_info=True, ignore_mismatched_sizes=True
    )
    refuse_mismatch(str(path), report)
    model.hf_quantizer, model.is_quantized = None, False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with under_way(folder.parent) as staging:
        lm = staging / "lm"
        model.save_pretrained(lm)
        for weights in lm.glob("*.safetensors"):
            as_opened(weights)
        tokenizer.save_pretrained(lm)
        if not folder.exists():  # another process may have been faster
            lm.rename(folder)
