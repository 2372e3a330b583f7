"""Targets over an LM that is loaded already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families.base import TargetFamily
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary


class LoadedLMTargets(TargetDataModule):
    """Targets over a model and a tokenizer of ``transformers`` that are loaded already.

    Args:
        model: a causal LM.
        tokenizer: its tokenizer.
        families: of targets.
        chunk_size: targets that are searched at the same time.
    """

    def __init__(self, model: Any, tokenizer: Any, families: list[TargetFamily], chunk_size: int = 64) -> None:
        self._loaded = model, tokenizer
        name = getattr(model.config, "_name_or_path", "") or "the loaded LM"
        super().__init__(families, chunk_size, lm=name)

    def load_vocabulary(self) -> Vocabulary:
        """As of :class:`TargetDataModule`."""
        model, tokenizer = self._loaded
        return Vocabulary(tokenizer, model.config.get_text_config().vocab_size, self.lm, LMOptions())

    def load_lm(self, device: torch.device | None) -> FrozenLM:
        """As of :class:`TargetDataModule`; it is where it was."""
        return FrozenLM(self._loaded[0])

    @property
    def device_type(self) -> str:
        """Kind of the device that the model is on."""
        return str(self._loaded[0].device.type)

    @contextmanager
    def left_as_it_was(self) -> Iterator[None]:
        """Gives the model back as it was: what was to be trained, and whether it was in training mode."""
        model = self._loaded[0]
        trained, mode = {id(p) for p in model.parameters() if p.requires_grad}, model.training
        try:
            yield
        finally:
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in trained)
            model.train(mode)
