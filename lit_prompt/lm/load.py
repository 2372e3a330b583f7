"""Loading models and tokenizers from a local folder, a GGUF file or a hub, with errors a user can act on."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lit_prompt.errors import InputError
from lit_prompt.lm.adapter import refuse_adapter
from lit_prompt.lm.gguf import gguf_parts, unpacked
from lit_prompt.lm.hub import explained, first_line, only_what_is_at_hand
from lit_prompt.lm.options import LMOptions
from lit_prompt.lm.quantization import keep_gradients, quantizing
from lit_prompt.lm.weights import refuse_mismatch, refuse_other_files, silence_report
from lit_prompt.progress import phase


def _check_folder(lm: str, options: LMOptions) -> None:
    """Refuses what transformers would ask a hub for or load in part: no folder, no config.json, an adapter."""
    if gguf_parts(lm):
        return
    if lm.startswith(("http://", "https://")):
        raise InputError(
            f"--lm: {lm} is only served, and its weights are needed here; TextPrompt (fit, test, predict, find) finds "
            "prompts by its answers alone"
        )
    path = Path(lm)
    looks_local = path.is_absolute() or lm.startswith((".", "~")) or lm.count("/") > 1
    if looks_local and not path.exists():
        raise InputError(f"--lm: no folder {lm}; give one with config.json and safetensors, a GGUF file, or a hub id")
    refuse_adapter(lm, source(lm, options))
    if path.exists() and not (path / "config.json").is_file():
        found = sorted(path.glob("*.gguf"))
        hint = f"name the file: --lm {found[0]}" if found else "give a folder saved by transformers' save_pretrained"
        raise InputError(f"--lm: {lm} holds no config.json; {hint}")


@contextmanager
def readable_errors(lm: str, options: LMOptions, part: str = "config.json") -> Iterator[None]:
    """Turns what transformers, safetensors and the hub raise over a part of an LM into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # tokenizers and huggingface_hub raise Exception itself and heirs of their own
        raise InputError(_explanation(lm, options, part, error)) from error


def _explanation(lm: str, options: LMOptions, part: str, error: Exception) -> str:
    from safetensors import SafetensorError

    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"--lm {lm} does not fit into memory; try --lm_options.dtype bfloat16 or --lm_options.device_map auto"
    if found := re.search("GGUF model with architecture (\\S+) is not supported", text):
        return f"--lm: transformers reads no GGUF file of the architecture {found[1]}; give {lm}'s safetensors folder"
    if "trust_remote_code" in text:
        return f"--lm {lm} comes with its own program code; read it, then pass --lm_options.trust_remote_code true"
    if "pip install" in text and "bitsandbytes" in text:
        return f"--lm: weights of {lm} in 8 or 4 bit need bitsandbytes: pip install 'lit_prompt[quantization]'"
    if "pip install accelerate" in text:
        return "lm_options.device_map needs accelerate: pip install accelerate"
    if isinstance(error, SafetensorError):
        return f"--lm: a safetensors file of {lm} is cut off or damaged ({first_line(error)}); fetch it again"
    if Path(lm).exists() and "no file named" in text:
        return (
            f"--lm: {lm} holds no model.safetensors; convert its weights to safetensors (pickled weights can run code "
            "and are not loaded)"
        )
    if "backend tokenizer" in text:
        return _no_tokenizer(lm)
    hub_id = _hub_id(lm)
    if hub_id is not None and (why := explained(hub_id, _revision(options), error)) is not None:
        return f"--lm: {lm} {why}"
    return f"--lm: {part} of {lm} could not be loaded: {first_line(error)}"


def _no_tokenizer(lm: str) -> str:
    return f"--lm: {lm} has no tokenizer that can be read; put a tokenizer.json beside its config.json"


def _hub_id(lm: str) -> str | None:
    parts = gguf_parts(lm)
    return parts[0] if parts else None if Path(lm).exists() else lm


def _revision(options: LMOptions) -> str:
    return options.revision or "main"


def source(lm: str, options: LMOptions) -> dict[str, Any]:
    """Where ``from_pretrained`` is to look: arguments that config, tokenizer and model have in common."""
    revision, hub_id = _revision(options), _hub_id(lm)
    local = hub_id is not None and only_what_is_at_hand(hub_id, revision)
    return {
        "pretrained_model_name_or_path": str(unpacked(lm, revision, local)) if gguf_parts(lm) else lm,
        "revision": revision,
        "trust_remote_code": options.trust_remote_code,
        "local_files_only": local,
    }


def load_tokenizer(lm: str, options: LMOptions) -> Any:
    """Loads the ``transformers`` tokenizer of an LM, given by hub id, local folder or GGUF file.

    Raises:
        InputError: if there is none to be had.
    """
    from transformers import AutoTokenizer

    _check_folder(lm, options)
    with readable_errors(lm, options, "the tokenizer"), phase(f"loading the tokenizer of {Path(lm).name}"):
        tokenizer = AutoTokenizer.from_pretrained(**source(lm, options))
    # without its files some tokenizer classes come up empty instead of failing
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(_no_tokenizer(lm))
    return tokenizer


def load_causal_lm(lm: str, options: LMOptions, device: torch.device | None = None) -> Any:
    """Loads a causal LM of ``transformers``, from safetensors or GGUF, frozen and in eval mode.

    Args:
        lm: hub id, local folder or GGUF file, whose weights are dequantised to the dtype of the options.
        options: how to load it.
        device: where its weights go, unless ``device_map`` places them; the CPU by default.

    Raises:
        InputError: if it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    silence_report()
    # a service would be asked to convert pickled weights, and its unreviewed copy be taken
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    _check_folder(lm, options)
    with readable_errors(lm, options, "the model"), phase(f"loading {Path(lm).name}"):
        refuse_other_files(lm, where := source(lm, options))
        model, report = AutoModelForCausalLM.from_pretrained(
            dtype=options.dtype,
            **{"device_map": options.device_map} | quantizing(lm, options, device),
            attn_implementation=options.attention,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told by us
            **where,
        )
        if device is not None and options.device_map is None and options.quantization is None:
            model = model.to(device)
    refuse_mismatch(lm, report)
    keep_gradients(model)
    return model.eval().requires_grad_(False)
