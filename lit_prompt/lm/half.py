"""A copy of an LM in half precision."""

import logging
import platform
from time import perf_counter

import torch

from lit_prompt.lm.frozen import FrozenLM
from lit_prompt.progress import phase

_log = logging.getLogger(__name__)

#: So many times as fast prompts must go through a copy for it to be worth its memory.
WORTH_HALF = 1.25
# prompts that are timed, and how often
_TIMED = 32
_ROUNDS = 2


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


@torch.no_grad()
def speed_in_half(lm: FrozenLM, half: FrozenLM, length: int) -> float:
    """How many times as fast prompts of ``length`` tokens go through a copy as through the LM itself, measured here."""
    ids = (torch.arange(_TIMED * length, device=lm.device) % lm.vocab_size).view(_TIMED, length)

    def seconds(own: FrozenLM) -> float:
        started = perf_counter()
        float(own.next_token_logits(own.embed(ids)).sum())  # waits for the device
        return perf_counter() - started

    with phase("speed in bfloat16"):
        seconds(half)  # kernels are prepared in a first pass
        rounds = [(seconds(half), seconds(lm)) for _ in range(_ROUNDS)]
    rough, full = (min(times) for times in zip(*rounds, strict=True))
    return full / rough


def computes_in_half(device: torch.device) -> bool:
    """Whether a device's processor has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if platform.machine() in ("aarch64", "arm64"):
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
