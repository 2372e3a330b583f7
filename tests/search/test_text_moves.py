"""Moves from a text to another one: each makes what it is named for, and nothing else."""

import random
from collections import Counter

import pytest

from lit_prompt.search import text_moves
from lit_prompt.search.text_moves import GAP, MOVES, Materials

TEXT = "The king, old and wise, sat by the sea."
OTHERS = ["A girl went home", "No! said the fox; yes"]
MATERIALS = Materials([" apple", " tree"], [" six", " two"], OTHERS)
TRIES = 300


def made(move, text=TEXT, materials=MATERIALS):
    rng = random.Random(0)
    found = [move(text, materials, rng) for _ in range(TRIES)]
    again = random.Random(0)
    assert found == [move(text, materials, again) for _ in range(TRIES)]  # the generator decides everything
    assert len(set(found)) > 5
    return found


def is_within(short, long):
    """Whether the characters of a text stand in another one, in their order."""
    rest = iter(long)
    return all(letter in rest for letter in short)


@pytest.mark.parametrize(
    ("move", "words"),
    [(text_moves.corpus_word, MATERIALS.words), (text_moves.own_word, MATERIALS.own),
     (text_moves.proposed_word, [GAP])],
)  # fmt: skip
def test_a_word_is_put_into_the_text_or_in_the_place_of_one(move, words):
    kept = Counter()
    for text in made(move):
        (word,) = [word for word in words if word in text]
        before, _, after = text.partition(word)
        assert TEXT.startswith(before)
        assert TEXT.endswith(after)
        kept[len(before) + len(after) == len(TEXT)] += 1
    assert min(kept[True], kept[False]) > TRIES // 5


@pytest.mark.parametrize("move", [text_moves.mark, text_moves.insertion])
def test_what_is_inserted_leaves_the_text_whole(move):
    for text in made(move):
        assert len(TEXT) < len(text) <= len(TEXT) + 12
        assert is_within(TEXT, text)
        start = next((i for i in range(len(TEXT)) if TEXT[i] != text[i]), len(TEXT))
        piece = len(text) - len(TEXT)
        places = [at for at in range(start + 1) if text[:at] + text[at + piece :] == TEXT]
        assert places  # in one piece
        if move is text_moves.insertion:
            assert any(text[at : at + piece] in other for at in places for other in OTHERS)


def test_a_deletion_leaves_a_beginning_and_an_end():
    for text in made(text_moves.deletion):
        assert len(text) < len(TEXT)
        assert is_within(text, TEXT)
        assert any(TEXT.startswith(text[:at]) and TEXT.endswith(text[at:]) for at in range(len(text) + 1))


def test_an_exchange_keeps_the_words():
    for text in made(text_moves.exchange):
        assert sorted(text) == sorted(TEXT)


def test_a_crossover_begins_as_one_text_and_ends_as_another():
    for text in made(text_moves.crossover):
        cuts = range(len(text) + 1)
        assert any(TEXT.startswith(text[:at]) and any(o.endswith(text[at:]) for o in OTHERS) for at in cuts)


def test_a_character_changes_one_place():
    for text in made(text_moves.character):
        assert len(text) - len(TEXT) in (0, 1)
        assert sum(a != b for a, b in zip(TEXT, text, strict=False)) <= 1 or len(text) > len(TEXT)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("text", ["a", " ", "é", "中文", "?!", "word"])
def test_every_move_takes_any_text_with_nothing_beside_it(move, text):
    rng = random.Random(1)
    for _ in range(50):
        move(text, Materials(MATERIALS.words, [], []), rng).encode()
