"""A copy of an LM in half precision."""

import copy

import torch
from torch import nn

from lit_prompt.lm.frozen import FrozenLM

#: Positions that go through a copy at once where what an item gives must not depend on the others.
POSITIONS_AT_ONCE = 512


def half_copy(lm: FrozenLM, fixed_shapes: bool) -> FrozenLM | None:
    """An LM whose weights are rounded to bfloat16, but for its head, which it shares.

    It takes half the memory of the LM's weights, embeddings included. Kernels for bfloat16 may sum in another order
    where there are more rows; with ``fixed_shapes`` items of a width go through the copy by always as many, filled up
    where there are fewer. None where the LM is in half precision itself, spread over devices, or of a kind whose
    rounded logits are no longer those of its head.
    """
    if lm.dtype.itemsize <= 2 or lm.dispatched:
        return None
    halves = {
        id(weight): nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        for weight in lm.model.parameters()
        if weight.is_floating_point()
    }
    half = FrozenLM(copy.deepcopy(lm.model, halves), POSITIONS_AT_ONCE if fixed_shapes else None)
    if half.is_linear != lm.is_linear:
        return None
    half.share_head(lm)
    return half


def computes_in_half(device: torch.device) -> bool:
    """Whether a device's processor has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
