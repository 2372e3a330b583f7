"""Where soft prompts start."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, Vocabulary
from lit_prompt.lm.prompt_adapter import read_adapter

_SCALE_SAMPLE = 4096


@dataclass(frozen=True)
class PromptInit:
    """Where soft prompts start.

    Attributes:
        kind: ``normal``: Gaussian entries. ``vocab``: embeddings of random ordinary tokens. ``text``: embeddings of a
            text's tokens, repeated or cut to the prompt's length. ``lift``: as ``normal``, but for the last embedding,
            which solves the target's problem as far as the LM's output head allows (see SoftPrompt); of several
            restarts the first alone. An LM without that geometry starts as with ``normal``. ``peft``: the embeddings of
            an adapter of prompt tuning, as many as the prompt's length.
        scale: standard deviation for ``normal`` and ``lift``; null takes that of the LM's token embeddings.
        text: the text for ``text``.
        path: folder of the adapter for ``peft``.
        shorter_run: folder of a run of shorter soft prompts, whose search has ended: the first restart of a target ends
            with the prompt that this has found for it; null for none.
    """

    kind: Literal["normal", "vocab", "text", "lift", "peft"] = "normal"
    scale: float | None = 1.0
    text: str | None = None
    path: str | None = None
    shorter_run: str | None = None


class PromptInitializer:
    """Draws initial prompts of ``length`` embeddings for one LM."""

    def __init__(self, init: PromptInit, length: int, lm: FrozenLM, vocabulary: Vocabulary) -> None:
        self._init = init
        self._shape = (length, lm.embedding_dim)
        self._lm = lm
        self._ids = torch.tensor(vocabulary.ordinary_ids)
        self._scale = init.scale if init.scale is not None else self._embedding_scale()
        self._adapter = self._read_adapter() if init.kind == "peft" else None
        self._text_ids = torch.tensor(vocabulary.encode(init.text or ""), dtype=torch.long)

    def _embedding_scale(self) -> float:
        every = max(1, len(self._ids) // _SCALE_SAMPLE)
        return float(self._lm.embed(self._ids[::every]).float().std())

    def _read_adapter(self) -> Tensor:
        setting = "model.init.path"
        found = read_adapter(Path(os.path.expanduser(self._init.path or "")), setting)
        if tuple(found.shape) != self._shape:
            raise InputError(
                f"{setting}: the adapter in {self._init.path} holds {found.shape[0]} embeddings of {found.shape[1]}, "
                f"the prompt is {self._shape[0]} of {self._shape[1]}; set model.length to {found.shape[0]}, on its LM"
            )
        return found

    def draw(self, seed: int) -> Tensor:
        """One initial prompt, ``[length, embedding]``, float32, on CPU; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        if self._init.kind in ("normal", "lift"):
            return self._scale * torch.randn(self._shape, generator=generator)
        if self._adapter is not None:
            return self._adapter.clone()
        length = self._shape[0]
        if self._init.kind == "vocab":
            ids = self._ids[torch.randint(len(self._ids), (length,), generator=generator)]
        else:
            ids = self._text_ids[torch.arange(length) % len(self._text_ids)]
        return self._lm.embed(ids).float().cpu()
