"""Natural beginnings and words: they are of the corpus, fit, and follow from the seed."""

import random

import pytest

from lit_prompt.data.texts import REGISTERS, TextSource
from lit_prompt.errors import InputError
from lit_prompt.search import word_source
from lit_prompt.search.text_search import TextSearch
from lit_prompt.search.word_source import WORD, WordSource


def test_beginnings_are_pieces_of_the_natural_texts_that_come_with_the_project():
    source = TextSearch().words(40)
    corpus = [" " + " ".join(text.split()) for text in REGISTERS.texts()]
    found = source.beginnings(64, random.Random(0))
    assert len(found) == len(set(found)) == 64
    assert all(any(text in line for line in corpus) for text in found)
    assert all(0 < len(text.encode()) <= 40 for text in found)
    assert len({len(WORD.findall(text)) for text in found}) > 5
    assert found == source.beginnings(64, random.Random(0)) != source.beginnings(64, random.Random(1))


@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_of_ones_own_take_their_place(tmp_path, ascii_only):
    path = tmp_path / "own.txt"
    path.write_text("A red fox.\n\nDas schöne Mädchen.")
    source = WordSource(TextSource(str(path)), None, 80, ascii_only)
    assert source.words == [" A", " red", " fox", ".", *([] if ascii_only else [" Das", " schöne", " Mädchen", "."])]
    assert set("".join(source.beginnings(5, random.Random(0)))) <= set("".join(source.words))


def test_a_corpus_of_any_size_is_read_so_far(tmp_path, monkeypatch):
    path = tmp_path / "own.txt"
    path.write_text("A red fox.\n\nA blue whale and more.\n\nNever read.")
    monkeypatch.setattr(word_source, "_CHARACTERS", 22)
    assert WordSource(TextSource(str(path)), None, 80, True).corpus == ["A red fox.", "A blue whale"]


def test_texts_without_an_ascii_one_are_named(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("Das schöne Mädchen.")
    with pytest.raises(InputError, match=r"own\.txt holds no text of ASCII alone; set ascii_only to false"):
        WordSource(TextSource(str(path)), None, 80, True).beginnings(5, random.Random(0))


def test_the_small_lm_proposes_words_after_what_stands_before():
    source = TextSearch().words(80)
    before = ["Once upon a time there"] * 40 + ["She went out of the"] * 40
    found = source.proposed(before, random.Random(0))
    assert found == source.proposed(before, random.Random(0))
    assert found[:40].count(" was") > 5
    assert found[40:].count(" room") > 3
    assert " was" not in found[40:]
    assert " room" not in found[:40]
    assert all(word == "" or WORD.fullmatch(word) for word in found)
