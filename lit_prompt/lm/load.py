"""Loading models and tokenizers from a local folder, a GGUF file or a hub, with errors a user can act on."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from lit_prompt.errors import InputError
from lit_prompt.lm.adapter import refuse_adapter
from lit_prompt.lm.gguf import gguf_parts, unpacked
from lit_prompt.lm.lacking import refuse_lacking
from lit_prompt.lm.options import LMOptions


def _check_folder(lm: str, options: LMOptions) -> None:
    """Refuses what transformers would ask a hub for or load in part: no folder, no config.json, an adapter."""
    if gguf_parts(lm):
        return
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
def readable_errors(lm: str, part: str = "config.json") -> Iterator[None]:
    """Turns what transformers, safetensors and the hub raise over a part of an LM into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # tokenizers and huggingface_hub raise Exception itself and heirs of their own
        raise InputError(_explanation(lm, part, error)) from error


def _explanation(lm: str, part: str, error: Exception) -> str:
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from safetensors import SafetensorError

    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"--lm {lm} does not fit into memory; try --lm_options.dtype bfloat16 or --lm_options.device_map auto"
    if found := re.search("GGUF model with architecture (\\S+) is not supported", text):
        return f"--lm: transformers reads no GGUF file of the architecture {found[1]}; give {lm}'s safetensors folder"
    if "trust_remote_code" in text:
        return f"--lm {lm} comes with its own program code; read it, then pass --lm_options.trust_remote_code true"
    if "pip install accelerate" in text:
        return "lm_options.device_map needs accelerate: pip install accelerate"
    if isinstance(error, SafetensorError):
        return f"--lm: a safetensors file of {lm} is cut off or damaged ({_first_line(error)}); fetch it again"
    if Path(lm).exists() and "no file named" in text:
        return (
            f"--lm: {lm} holds no model.safetensors; convert its weights to safetensors (pickled weights can run code "
            "and are not loaded)"
        )
    if "backend tokenizer" in text:
        return _no_tokenizer(lm)
    if Path(lm).exists() or isinstance(error, ImportError):
        return f"--lm: {part} of {lm} could not be loaded: {_first_line(error)}"
    if "safetensors" in text and "connect" not in text:
        return f"--lm: {lm} has no safetensors weights on the hub; choose a revision that has"
    offline = " (HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
    return (
        f"--lm: {lm} is no local folder and could not be had from the hub{offline}: {_first_line(error)} "
        "Check the name and the network, or give a local folder."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:300]


def _no_tokenizer(lm: str) -> str:
    return f"--lm: {lm} has no tokenizer that can be read; put a tokenizer.json beside its config.json"


def source(lm: str, options: LMOptions) -> dict[str, Any]:
    """Where ``from_pretrained`` is to look: arguments that config, tokenizer and model have in common."""
    revision = options.revision or "main"
    # else the hub's client tries again and again for a minute; what was fetched before loads without a network
    local = not Path(lm).exists() and _hub_is_out_of_reach()
    return {
        "pretrained_model_name_or_path": str(unpacked(lm, revision, local)) if gguf_parts(lm) else lm,
        "revision": revision,
        "trust_remote_code": options.trust_remote_code,
        "local_files_only": local,
    }


@cache
def _hub_is_out_of_reach() -> bool:
    from huggingface_hub.constants import ENDPOINT

    if getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False


def load_tokenizer(lm: str, options: LMOptions) -> Any:
    """Loads the ``transformers`` tokenizer of an LM, given by hub id, local folder or GGUF file.

    Raises:
        InputError: if there is none to be had.
    """
    from transformers import AutoTokenizer

    _check_folder(lm, options)
    with readable_errors(lm, "the tokenizer"):
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
    _check_folder(lm, options)
    with readable_errors(lm, "the model"):
        model, report = AutoModelForCausalLM.from_pretrained(
            dtype=options.dtype,
            device_map=options.device_map,
            attn_implementation=options.attention,
            use_safetensors=True,
            output_loading_info=True,
            **source(lm, options),
        )
        if device is not None and options.device_map is None:
            model = model.to(device)
    refuse_lacking(lm, report)
    return model.eval().requires_grad_(False)
