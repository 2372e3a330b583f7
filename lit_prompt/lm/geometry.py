"""The final norm and the output head of an LM, found and verified by measurement."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lit_prompt.errors import InputError
from lit_prompt.functional.output_head import OutputHead
from lit_prompt.functional.precision import double
from lit_prompt.lm.frozen import FrozenLM

_PROBES = 8
_POSITIONS = 3
_AT_ONCE = 2  # what fits for a search fits here
# the norm is also probed at states as small and as large as a prompt can make them
_STATE_SCALES = (1e-2, 1.0, 1e2)


def output_geometry(lm: FrozenLM) -> OutputHead:
    """Final norm and head of an LM, as what they do to numbers, not as what they are called.

    The module whose output is the last hidden state is found by following the values back from it on a probe; a linear
    projection may follow the norm. What it gives for states of all sizes decides whether it is a LayerNorm or an
    RMSNorm, with which gain and bias. Then the norm's bound is checked on the states recovered from the LM's features,
    and the head on its logits.

    Raises:
        InputError: if the geometry does not hold for this LM. Such LMs can be searched all the same.
    """
    if not lm.is_linear:
        raise _unknown("its logits are not a linear function of its last hidden state (they are soft-capped, say)")
    probe = _probe(lm)
    with torch.no_grad():
        first, *others = probe.split(_AT_ONCE)
        features, calls = _recorded(lm, first)
        norm = _final_norm(features, calls)
        if norm is None:
            raise _unknown("its last hidden state does not come from a LayerNorm or an RMSNorm")
        # norms are computed in float32 even in a float64 LM
        rounding = max(torch.finfo(lm.dtype).eps, torch.finfo(torch.float32).eps)
        gain, shift, centred = norm
        geometry = OutputHead(*lm.head(), gain, shift, centred, rounding)
        features = torch.cat([features, *(lm.features(part) for part in others)])
        if not geometry.contains(features).all():
            raise _unknown("its last hidden states lie outside the ball that its final norm should keep them in")
        # on more and larger states than were at hand when the LM was loaded
        parts = probe.to(lm.dtype).split(_AT_ONCE)
        logits = torch.cat([lm.model(inputs_embeds=part, use_cache=False).logits[:, -1] for part in parts])
        logits = logits.to(features)
        if not (lm.logits(features) - logits).abs().amax() <= max(1e-4, 4 * rounding) * logits.abs().amax():
            raise _unknown("its logits are not what its head gives for its last hidden state")
    return geometry


def _unknown(why: str) -> InputError:
    return InputError(f"this LM has no certified floor and no lift: {why}; searches work all the same")


def _probe(lm: FrozenLM) -> Tensor:
    """Embeddings of random tokens and, for as many rows, random directions of many lengths."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(lm.vocab_size, (_PROBES, _POSITIONS), generator=generator)
    tokens = lm.embed(ids.clamp_max(lm.model.get_input_embeddings().weight.shape[0] - 1)).float()
    lengths = torch.logspace(-1, 2, _PROBES).view(-1, 1, 1).to(tokens.device)
    return torch.cat([tokens, lengths * torch.randn(tokens.shape, generator=generator).to(tokens)])


def _recorded(lm: FrozenLM, probe: Tensor) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
    """Features of a probe, and the calls of the modules that gave them: module, input and output at the last place."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor) and output.dim() == 3:
            calls.append((module, inputs[0][: len(probe), -1].detach(), output[: len(probe), -1].detach()))

    leaves = [module for module in lm.model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(record) for module in leaves]
    try:
        return lm.features(probe), calls
    finally:
        for hook in hooks:
            hook.remove()


def _final_norm(features: Tensor, calls: list[tuple[nn.Module, Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool] | None:
    """Gain, shift and centring of what made the features, float64; None where that is no norm."""
    value = features
    projection: nn.Linear | None = None
    for module, given, output in reversed(calls):
        if output.shape != value.shape or not torch.equal(output.to(value), value):
            continue
        if isinstance(module, nn.Linear) and projection is None:
            projection, value = module, given.to(features)
            continue
        norm = _norm_form(module, given)
        if norm is None or projection is None:
            return norm
        gain, shift, centred = norm
        matrix = double(projection.weight)
        bias = 0.0 if projection.bias is None else double(projection.bias)
        return matrix * gain, matrix @ shift + bias, centred
    return None


def _norm_form(module: nn.Module, given: Tensor) -> tuple[Tensor, Tensor, bool] | None:
    """Gain, shift and centring of a norm, tried out on states of all sizes, float64; None if it is no norm."""
    dim = given.shape[-1]
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    if any(isinstance(x, Tensor) and x.shape != (dim,) for x in (weight, bias)):
        return None
    gain = double(weight) if isinstance(weight, Tensor) else double(torch.ones(dim))
    shift = double(bias) if isinstance(bias, Tensor) else torch.zeros_like(gain)
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(_PROBES, dim, generator=generator).to(given) + 0.5  # with a mean, which a LayerNorm takes away
    states = torch.cat([given, *(scale * random for scale in _STATE_SCALES)])
    output = double(module(states.unsqueeze(1)).squeeze(1))
    tolerance = max(1e-4, 8 * torch.finfo(given.dtype).eps)
    for centred in (False, True):
        x = double(states)
        x = x - x.mean(1, keepdim=True) if centred else x
        direction = x * (math.sqrt(dim) / x.norm(dim=1, keepdim=True))
        for form in (gain, 1.0 + gain):  # Gemma's norms hold the gain less one
            whole = direction * form
            length = ((output - shift) * whole).sum(1, keepdim=True) / (whole * whole).sum(1, keepdim=True)
            error = (length * whole + shift - output).abs().amax(1)
            fits = error <= tolerance * output.abs().amax(1).clamp_min(1e-30)
            bounded = (length <= 1.0 + tolerance) & (length >= 0.0)
            if bool(fits.all() and bounded.all() and length[-1] >= 1.0 - tolerance):
                return form, shift, centred
    return None
