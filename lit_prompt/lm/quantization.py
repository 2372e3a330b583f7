"""LMs whose linear layers hold their weights in 8 or 4 bits."""

import logging
from typing import Any

import torch

from lit_prompt.errors import InputError
from lit_prompt.lm.gguf import gguf_parts
from lit_prompt.lm.options import LMOptions


def quantizing(lm: str, options: LMOptions, device: torch.device | None) -> dict[str, Any]:
    """What ``from_pretrained`` is told so that it quantises an LM while it loads it; nothing by default.

    Raises:
        InputError: if the LM is a GGUF file.
    """
    if options.quantization is None:
        return {}
    if gguf_parts(lm):
        raise InputError(
            f"lm_options.quantization: {lm} is a GGUF file, whose weights are dequantised when it is read; give the "
            "LM's safetensors folder"
        )
    from transformers import BitsAndBytesConfig

    silence_bitsandbytes()
    dtype = None if options.dtype == "auto" else getattr(torch, options.dtype)
    settings = BitsAndBytesConfig(
        load_in_8bit=options.quantization == "8bit",
        load_in_4bit=options.quantization == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )
    # weights go where they belong as they are quantised: some kinds cannot be moved
    return {"quantization_config": settings, "device_map": options.device_map or {"": device or torch.device("cpu")}}


def silence_bitsandbytes() -> None:
    """Keeps bitsandbytes from a line at each product, and from one on a kernel that it would fetch from a hub."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def keep_gradients(model: Any) -> None:
    """Keeps bitsandbytes from a product on CPUs with AVX512-BF16 that has no gradient, which it takes in eval mode."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
