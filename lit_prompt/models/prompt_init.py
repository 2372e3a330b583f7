"""Where soft prompts start."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_prompt.lm import FrozenLM, Vocabulary

_SCALE_SAMPLE = 4096


@dataclass(frozen=True)
class PromptInit:
    """Where soft prompts start.

    Attributes:
        kind: ``normal``: Gaussian entries. ``vocab``: embeddings of random ordinary tokens. ``text``: embeddings of a
            text's tokens, repeated or cut to the prompt's length. ``lift``: as ``normal``, but for the last embedding,
            which solves the target's problem as far as the LM's output head allows (see SoftPrompt); of several
            restarts the first alone. An LM without that geometry starts as with ``normal``.
        scale: standard deviation for ``normal`` and ``lift``; null takes that of the LM's token embeddings.
        text: the text for ``text``.
        shorter_run: folder of a run of shorter soft prompts, whose search has ended: the first restart of a target ends
            with the prompt that this has found for it; null for none.
    """

    kind: Literal["normal", "vocab", "text", "lift"] = "normal"
    scale: float | None = 1.0
    text: str | None = None
    shorter_run: str | None = None


class PromptInitializer:
    """Draws initial prompts of ``length`` embeddings for one LM."""

    def __init__(self, init: PromptInit, length: int, lm: FrozenLM, vocabulary: Vocabulary) -> None:
        self._init = init
        self._shape = (length, lm.embedding_dim)
        self._lm = lm
        self._ids = torch.tensor(vocabulary.ordinary_ids)
        self._scale = init.scale if init.scale is not None else self._embedding_scale()
        self._text_ids = torch.tensor(vocabulary.encode(init.text or ""), dtype=torch.long)

    def _embedding_scale(self) -> float:
        every = max(1, len(self._ids) // _SCALE_SAMPLE)
        return float(self._lm.embed(self._ids[::every]).float().std())

    def draw(self, seed: int) -> Tensor:
        """One initial prompt, ``[length, embedding]``, float32, on CPU; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        if self._init.kind in ("normal", "lift"):
            return self._scale * torch.randn(self._shape, generator=generator)
        length = self._shape[0]
        if self._init.kind == "vocab":
            ids = self._ids[torch.randint(len(self._ids), (length,), generator=generator)]
        else:
            ids = self._text_ids[torch.arange(length) % len(self._text_ids)]
        return self._lm.embed(ids).float().cpu()
