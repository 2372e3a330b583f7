"""Texts for some slots: how they are scored, and what they are made of."""

import random
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.functional import seed_for
from lit_prompt.scoring.text_scorer import TextScorer
from lit_prompt.search.text_ids import ids_text, text_ids
from lit_prompt.search.word_source import WORD, WordSource


class TextProblem:
    """What a searcher of texts may ask.

    Args:
        scorer: scores texts.
        names: words of each slot's targets, such as their answers.
        words: where words come from.
        length: bytes of a text at most.
        ascii_only: whether a text holds no other characters.
        seed: base of the seeds.
    """

    def __init__(
        self,
        scorer: TextScorer,
        names: Sequence[Sequence[str]],
        words: WordSource,
        length: int,
        ascii_only: bool,
        seed: int,
    ) -> None:
        self.scorer, self.slots, self.words, self.length = scorer, scorer.slots, words, length
        self._names, self._ascii, self._seed = names, ascii_only, seed

    device = torch.device("cpu")  #: of what a search carries

    def __len__(self) -> int:
        return len(self.slots)

    @cached_property
    def groups(self) -> list[list[int]]:
        """Slots whose texts stand in the same contexts, by restart: a text of one is a text of all."""
        found: dict[object, list[int]] = {}
        for slot in range(len(self)):
            contexts = tuple(dict.fromkeys(member.context for member in self.slots.targets(slot)))
            found.setdefault((contexts, self.slots.restart(slot)), []).append(slot)
        return list(found.values())

    def rng(self, slot: int, *parts: object) -> random.Random:
        """Random numbers that follow from the seed, a slot and whatever else is named."""
        return random.Random(seed_for(self._seed, self.slots.restart(slot), self.slots.name(slot), *parts))

    def own_words(self, slot: int) -> list[str]:
        """The words of a slot's targets, and their parts."""
        names = self._names[self.slots.task(slot)]
        return sorted({*names, *(word for name in names for word in WORD.findall(name))})

    def takes(self, text: str) -> bool:
        """Whether a prompt may be this text."""
        fits = 0 < len(text.encode(errors="replace")) <= self.length
        return fits and "\0" not in text and (text.isascii() or not self._ascii) and text.isprintable()

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Texts as rows, ``[text, length]``."""
        return text_ids(texts, self.length)

    def texts(self, ids: Tensor) -> list[str]:
        """The texts of rows ``[text, length]``."""
        return [ids_text(row) for row in ids.tolist()]

    def take_passes(self) -> Tensor:
        """How often the LM was asked for each slot since this was last taken, ``[slot]``, int64."""
        return self.scorer.take_passes()

    def settle(self) -> None:
        """Ends a step."""

    def release(self) -> None:
        """Drops what only more steps would need."""
