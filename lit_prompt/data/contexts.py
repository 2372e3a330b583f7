"""Natural contexts: beginnings of texts, cut between words, the same for every LM and tokenizer."""

import heapq
import re
from dataclasses import dataclass

import numpy as np

from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError
from lit_prompt.functional import seed_for

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class ContextCut:
    """How long a context is.

    Attributes:
        min_words: fewest words of a context; a text must have more.
        max_words: most words of a context.
        per_text: contexts that are cut from one text.
    """

    min_words: int = 4
    max_words: int = 40
    per_text: int = 1

    def contexts(self, text: str, seed: int) -> list[str]:
        """Beginnings of a text that end with a word before its last; none where it is too short."""
        ends = [word.end() for word in _WORD.finditer(text)]
        lengths = range(self.min_words, min(self.max_words, len(ends) - 1) + 1)
        count = min(self.per_text, len(lengths))
        if count < 1:
            return []
        chosen = np.random.default_rng(seed).choice(lengths, count, replace=False)
        return [text[: ends[words - 1]] for words in chosen]


def choose_contexts(source: TextSource, cut: ContextCut, count: int, seed: int) -> list[str]:
    """Draws contexts from all texts of a source, read once; the first ones stay the same when more are asked for.

    Raises:
        InputError: if the source has fewer.
    """
    keyed = (
        (seed_for(seed, "key", number, k), context)
        for number, text in enumerate(source.texts())
        for k, context in enumerate(cut.contexts(text, seed_for(seed, "cut", number)))
    )
    chosen = [context for _, context in heapq.nsmallest(count, keyed)]
    if len(chosen) < count:
        raise InputError(
            f"{source.path}: {count} contexts are wanted, its texts give {len(chosen)} of at least {cut.min_words} "
            "words; lower count or cut.min_words, or raise cut.per_text"
        )
    return chosen
