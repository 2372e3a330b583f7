"""A copy of an LM in half precision."""

import logging
import platform

import torch

from lit_prompt.lm.frozen import FrozenLM

_log = logging.getLogger(__name__)


def half_copy(lm: FrozenLM, positions_at_once: int | None) -> FrozenLM | None:
    """An LM whose weights are rounded to bfloat16, but for its head, which it shares.

    It takes half the memory of the LM's weights, embeddings included. Kernels for bfloat16 may sum in another order
    where there are more rows; with ``positions_at_once`` items of a width go through the copy by always as many, filled
    up where there are fewer, so that what an item gives does not depend on the others. None where the LM is not in
    float32, is quantised or spread over devices, does not compute in bfloat16, or leaves no memory for a copy.
    """
    if lm.dispatched or any(weight.dtype != torch.float32 for weight in lm.model.parameters()):
        return None
    try:
        half = lm.rounded(torch.bfloat16, positions_at_once)
        ids = torch.arange(8).unsqueeze(0) % lm.vocab_size
        with torch.no_grad():
            found = [
                half.next_token_logits(half.embed(ids), mask) for mask in (None, torch.arange(8).unsqueeze(0) >= 3)
            ]
        half.caches_prefixes(4)
    except (
        RuntimeError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:  # float32 buffers, no kernel
        _log.debug("no copy in bfloat16: %s", error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
    return half if bool(torch.cat(found).isfinite().all()) else None


def computes_in_half(device: torch.device) -> bool:
    """Whether a device's processor has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if platform.machine() in ("aarch64", "arm64"):
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
