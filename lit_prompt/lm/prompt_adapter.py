"""Adapters of prompt tuning (Lester et al., 2021) in the files of PEFT, which puts them before all text."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.files import as_opened
from lit_prompt.lm.adapter import CONFIG, WEIGHTS

KEY = "prompt_embeddings"


def write_adapter(folder: Path, embeddings: Tensor, config: Any, lm: str, revision: str | None) -> None:
    """Writes an adapter that ``PeftModel.from_pretrained`` reads.

    Args:
        folder: to make.
        embeddings: ``[position, embedding]``: all that stands before what the user types.
        config: of the LM, as ``transformers`` has it.
        lm: its hub id or folder.
        revision: of the hub's repository.
    """
    text = config.get_text_config()
    settings = {
        "base_model_name_or_path": lm,
        "inference_mode": True,
        "num_attention_heads": getattr(text, "num_attention_heads", None),
        "num_layers": getattr(text, "num_hidden_layers", None),
        "num_transformer_submodules": 1,
        "num_virtual_tokens": embeddings.shape[0],
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",
        "revision": revision,
        "task_type": "CAUSAL_LM",
        "token_dim": embeddings.shape[1],
    }
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file({KEY: embeddings.contiguous()}, folder / WEIGHTS, metadata={"format": "pt"})
    as_opened(folder / WEIGHTS)


def read_adapter(folder: Path, setting: str) -> Tensor:
    """The embeddings of an adapter of prompt tuning, ``[position, embedding]``, float32.

    Args:
        folder: of the adapter.
        setting: that named it, for the error.

    Raises:
        InputError: if it holds no such adapter.
    """
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{setting}: {folder} holds no adapter of PEFT ({CONFIG} cannot be read: {error})") from error
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "PROMPT_TUNING":
        raise InputError(
            f"{setting}: the adapter in {folder} is {kind}; only PROMPT_TUNING is a prompt, others change the LM itself"
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{setting}: {folder} has no {WEIGHTS}; pickled weights (.bin) can run code and are not loaded"
        )
    try:
        found = load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has errors of its own
        raise InputError(f"{setting}: {folder / WEIGHTS} cannot be read ({error}); fetch it again") from error
    if list(found) != [KEY] or found[KEY].dim() != 2 or not bool(found[KEY].isfinite().all()):
        raise InputError(f"{setting}: {folder / WEIGHTS} does not hold {KEY} alone, as finite [position, embedding]")
    return found[KEY].float()
