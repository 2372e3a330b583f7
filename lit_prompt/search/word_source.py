"""Where the words of texts come from: a corpus, and a small LM at hand."""

import random
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import torch

from lit_prompt.data.texts import TextSource
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.functional.precision import double
from lit_prompt.lm import DEFAULT_LM, FrozenLM, LMOptions, Vocabulary

# texts of a corpus that are read, and characters of them
_READ, _CHARACTERS = 2000, 2**22
# tokens before a word that the small LM sees, and those of a word at most
_SEEN, _WORD = 32, 3
#: A word with the space before it, or a mark.
WORD = re.compile(r"\s?\w+|\s?[^\w\s]")


class WordSource:
    """Natural beginnings, their words, and words that a small LM puts after a text.

    Args:
        texts: the corpus.
        proposer: the small LM, at hand.
        length: bytes of a text at most.
        ascii_only: whether words with other characters are left out.
    """

    def __init__(self, texts: TextSource, proposer: str | None, length: int, ascii_only: bool) -> None:
        self._texts, self._name, self._length, self._ascii = texts, proposer or DEFAULT_LM, length, ascii_only

    @cached_property
    def _proposer(self) -> tuple[FrozenLM, Vocabulary]:
        name, options = embedded(self._name), LMOptions()
        return FrozenLM.load(name, options, torch.device("cpu")), Vocabulary.load(name, options)

    @cached_property
    def corpus(self) -> list[str]:
        """Natural texts, each on one line.

        Raises:
            InputError: if there is none.
        """
        found: list[str] = []
        left = _CHARACTERS
        for text in islice(self._texts.texts(), _READ):
            line = " ".join(text[:left].split())
            if line and (line.isascii() or not self._ascii):
                found.append(line)
            left -= len(text)
            if left <= 0:
                break
        if not found:
            raise InputError(
                f"model.searcher texts: {self._texts.path} holds no text of ASCII alone; set ascii_only to false"
            )
        return found

    @cached_property
    def words(self) -> list[str]:
        """The words of the corpus, as often as they are there, each with the space before it."""
        return [word for text in self.corpus for word in WORD.findall(" " + text)]

    def beginnings(self, count: int, rng: random.Random) -> list[str]:
        """Natural beginnings of several lengths, each once."""
        found: dict[str, None] = {}
        for _ in range(4 * count):
            words = WORD.findall(" " + rng.choice(self.corpus))
            start = rng.randrange(len(words))
            text = "".join(words[start : start + rng.randint(1, 12)])
            if 0 < len(text.encode()) <= self._length:
                found[text] = None
            if len(found) == count:
                break
        return list(found)

    @torch.no_grad()
    def proposed(self, before: Sequence[str], rng: random.Random) -> list[str]:
        """A word that the small LM puts after each of some texts."""
        if not before:
            return []
        lm, vocabulary = self._proposer
        ids = [vocabulary.encode_start(text)[-_SEEN:] or vocabulary.empty_text_ids for text in before]
        words: list[list[int]] = [[] for _ in ids]
        chances = torch.Generator().manual_seed(rng.getrandbits(62))
        for _ in range(_WORD):
            rows = [row + word for row, word in zip(ids, words, strict=True)]
            longest = max(map(len, rows))
            filled = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            logits = lm.model(input_ids=filled, use_cache=False).logits
            last = logits[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            if vocabulary.undefined_ids:
                last[:, vocabulary.undefined_ids] = -torch.inf
            drawn = torch.multinomial(double(last).softmax(-1), 1, generator=chances).flatten().tolist()
            for word, token in zip(words, drawn, strict=True):
                word.append(token)
        return [self._first_word(vocabulary, word) for word in words]

    def _first_word(self, vocabulary: Vocabulary, ids: list[int]) -> str:
        special = set(vocabulary.special_ids)
        kept = [i for i in ids if i not in special]
        text = "".join(vocabulary.text(i) for i in kept)
        found = WORD.match(" ".join(text.split()) if not text[:1].isspace() else " " + " ".join(text.split()))
        return found[0] if found and (found[0].isascii() or not self._ascii) else ""
