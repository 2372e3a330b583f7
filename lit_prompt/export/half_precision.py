"""Prompts that keep what they reach when they are rounded to half precision."""

from dataclasses import replace

import torch

from lit_prompt.export.found_prompts import FoundPrompt, FoundPrompts
from lit_prompt.lm import FrozenLM

#: Largest entries of the last embedding that are tried, each a quarter of the one before.
_TRIED, _LARGEST = 12, 1e8


def scaled_lift(found: FoundPrompts, prompt: FoundPrompt, lm: FrozenLM) -> FoundPrompt:
    """A lifted prompt at the scale of its last embedding at which it loses least on an LM in half precision.

    The final norm sees the direction of a long last embedding alone. The longer it is, the less is left of what the
    blocks add to it, which is what rounding spoils; so a scale that changes nothing in float32 saves it.

    Args:
        found: the prompts of its run.
        prompt: the one that was lifted.
        lm: in the dtype that it is exported in.
    """
    largest = min(_LARGEST, torch.finfo(lm.dtype).max / 8)  # what the blocks add must be finite, too
    last = prompt.prompt[-1:] / prompt.prompt[-1].abs().max()
    tried = [torch.cat([prompt.prompt[:-1], largest / 4**k * last]) for k in range(_TRIED)]
    # as it is, too: one that gradient descent went on with counts by its length as well
    candidates = [prompt, *(replace(prompt, prompt=embeddings) for embeddings in tried)]
    reached = [prompt.kl(found.reached_on(lm, candidate)) for candidate in candidates]
    return min(zip(reached, candidates, strict=True), key=lambda pair: (pair[0] != pair[0], pair[0]))[1]
