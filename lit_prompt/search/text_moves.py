"""Moves from a text to another one, by names."""

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lit_prompt.search.word_source import WORD

_MARKS = ",.:;!?'\"()[]{}-_/\\|*#=+<>&%$@^~`0123456789 "
_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "
#: Stands in a text where the small LM is to put a word.
GAP = "\0"


@dataclass(frozen=True)
class Materials:
    """What moves are made of.

    Attributes:
        words: of the corpus.
        own: words of the target.
        others: the other texts that a slot has kept.
    """

    words: Sequence[str]
    own: Sequence[str]
    others: Sequence[str]


Move = Callable[[str, Materials, random.Random], str]


def _pieces(text: str) -> list[str]:
    """Words and marks, each with the space before it; together they are the text."""
    found, end = [], 0
    for match in WORD.finditer(text):
        found.append(text[end : match.end()])
        end = match.end()
    return found + ([text[end:]] if end < len(text) else [])


def _put(text: str, word: str, rng: random.Random) -> str:
    """A word in a text, in the place of another one or between two."""
    pieces = _pieces(text)
    place = rng.randrange(len(pieces) + 1)
    taken = rng.randint(0, 1) if place < len(pieces) else 0
    return "".join([*pieces[:place], word, *pieces[place + taken :]])


def corpus_word(text: str, materials: Materials, rng: random.Random) -> str:
    """A word of the corpus, put into the text."""
    return _put(text, rng.choice(materials.words), rng) if materials.words else text


def proposed_word(text: str, materials: Materials, rng: random.Random) -> str:
    """A word that a small LM puts after what stands before: its place is left open here."""
    return _put(text, GAP, rng)


def own_word(text: str, materials: Materials, rng: random.Random) -> str:
    """A word of the target, put into the text."""
    return _put(text, rng.choice(materials.own), rng) if materials.own else text


def mark(text: str, materials: Materials, rng: random.Random) -> str:
    """A mark or a digit, put between two characters."""
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice(_MARKS) + text[place:]


def insertion(text: str, materials: Materials, rng: random.Random) -> str:
    """A piece of another text, put between two characters."""
    other = rng.choice(materials.others) if materials.others else text
    start = rng.randrange(len(other))
    place = rng.randint(0, len(text))
    return text[:place] + other[start : start + rng.randint(1, 12)] + text[place:]


def crossover(text: str, materials: Materials, rng: random.Random) -> str:
    """The beginning of the text, and the end of another one."""
    other = rng.choice(materials.others) if materials.others else text
    mine, theirs = _pieces(text), _pieces(other)
    cut = rng.randint(0, len(mine))
    share = cut / max(len(mine), 1) * len(theirs)
    at = min(len(theirs), max(0, round(share) + rng.randint(-1, 1)))
    return "".join(mine[:cut] + theirs[at:])


def deletion(text: str, materials: Materials, rng: random.Random) -> str:
    """The text without a word, or without some characters."""
    if rng.random() < 0.5:
        pieces = _pieces(text)
        place = rng.randrange(len(pieces))
        return "".join(pieces[:place] + pieces[place + 1 :])
    place = rng.randrange(len(text))
    return text[:place] + text[place + rng.randint(1, 6) :]


def exchange(text: str, materials: Materials, rng: random.Random) -> str:
    """Two words in each other's place."""
    pieces = _pieces(text)
    a, b = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    pieces[a], pieces[b] = pieces[b], pieces[a]
    return "".join(pieces)


def character(text: str, materials: Materials, rng: random.Random) -> str:
    """A character in the place of another one, or between two."""
    place = rng.randrange(len(text))
    return text[:place] + rng.choice(_CHARACTERS) + text[place + rng.randint(0, 1) :]


#: All moves, in the order in which a search counts them.
MOVES: tuple[Move, ...] = (
    corpus_word, proposed_word, own_word, mark, insertion, crossover, deletion, exchange, character,
)  # fmt: skip
