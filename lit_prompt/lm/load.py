"""Loading models and tokenizers from a local folder or a hub, with errors a user can act on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lit_prompt.errors import InputError
from lit_prompt.lm.options import LMOptions


def _check_folder(lm: str) -> None:
    """Refuses a local path that does not exist or holds no safetensors, before transformers asks a hub for it."""
    path = Path(lm)
    looks_local = path.is_absolute() or lm.startswith((".", "~")) or lm.count("/") > 1
    if not path.exists():
        if looks_local:
            raise InputError(f"--lm: no folder {lm}; give a folder with config.json and safetensors, or a hub id")
        return
    if not (path / "config.json").is_file():
        raise InputError(f"--lm: {lm} holds no config.json; give a folder saved by transformers' save_pretrained")


@contextmanager
def readable_errors(lm: str) -> Iterator[None]:
    """Turns what transformers and the hub raise into one line."""
    try:
        yield
    except ImportError as error:
        if "accelerate" in str(error):
            raise InputError("lm_options.device_map needs accelerate: pip install accelerate") from error
        raise InputError(f"--lm {lm}: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError):
            raise InputError(
                f"--lm {lm} does not fit into memory; try --lm_options.dtype bfloat16 or --lm_options.device_map auto"
            ) from error
        if "trust_remote_code" in text:
            raise InputError(
                f"--lm {lm} comes with its own program code; read it, then pass --lm_options.trust_remote_code true"
            ) from error
        if Path(lm).exists():
            if "safetensors" in text or "no file named" in text:
                raise InputError(
                    f"--lm: {lm} holds no model.safetensors; convert its weights to safetensors (pickled weights can "
                    "run code and are not loaded)"
                ) from error
            raise InputError(f"--lm: {lm} could not be loaded: {_first_line(error)}") from error
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        if "safetensors" in text and "connect" not in text:
            raise InputError(f"--lm: {lm} has no safetensors weights on the hub; choose a revision that has") from error
        raise InputError(
            f"--lm: {lm} is no local folder and could not be had from the hub{offline}: {_first_line(error)} "
            "Check the name and the network, or give a local folder."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def load_tokenizer(lm: str, options: LMOptions) -> Any:
    """Loads the tokenizer of an LM.

    Args:
        lm: hub id or local folder.
        options: revision and trust_remote_code are used.

    Returns:
        A ``transformers`` tokenizer.

    Raises:
        InputError: if there is none to be had.
    """
    from transformers import AutoTokenizer

    _check_folder(lm)
    with readable_errors(lm):
        return AutoTokenizer.from_pretrained(
            lm, revision=options.revision or "main", trust_remote_code=options.trust_remote_code
        )


def load_causal_lm(lm: str, options: LMOptions) -> Any:
    """Loads the weights of a causal LM, safetensors only, frozen and in eval mode.

    Args:
        lm: hub id or local folder.
        options: how to load it.

    Returns:
        A ``transformers`` model.

    Raises:
        InputError: if it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    _check_folder(lm)
    extra: dict[str, Any] = {}
    if options.device_map is not None:
        extra["device_map"] = options.device_map
    if options.attention is not None:
        extra["attn_implementation"] = options.attention
    with readable_errors(lm):
        model = AutoModelForCausalLM.from_pretrained(
            lm,
            dtype=options.dtype if options.dtype == "auto" else getattr(torch, options.dtype),
            revision=options.revision or "main",
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
            **extra,
        )
    return model.eval().requires_grad_(False)
