from pathlib import Path

import pytest

from lit_prompt.data.contexts import ContextCut, choose_contexts
from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError

TEXTS = [" ".join(f"w{i}-{k}" for k in range(10)) for i in range(30)]


@pytest.fixture
def source(tmp_path: Path) -> TextSource:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return TextSource(str(path))


def test_a_context_is_the_beginning_of_a_text_and_never_all_of_it(source):
    contexts = choose_contexts(source, ContextCut(min_words=3, max_words=20), 30, seed=1)
    for context in contexts:
        (text,) = (text for text in TEXTS if text.startswith(context))
        assert 3 <= len(context.split()) <= 9
        assert text[len(context)] == " "
    assert len({len(context.split()) for context in contexts}) > 3


def test_asking_for_more_keeps_the_first_ones(source):
    cut = ContextCut(min_words=3, per_text=2)
    many = choose_contexts(source, cut, 40, seed=1)
    assert choose_contexts(source, cut, 7, seed=1) == many[:7]
    assert len(set(many)) == 40
    assert choose_contexts(source, cut, 7, seed=2) != many[:7]


def test_all_texts_are_drawn_from_not_the_first_ones_alone(source):
    drawn = choose_contexts(source, ContextCut(min_words=3), 10, seed=0)
    assert any(int(context[1 : context.index("-")]) >= 15 for context in drawn)


def test_spacing_of_the_text_is_kept():
    assert set(ContextCut(min_words=2, max_words=2).contexts("a  b\nc", 0)) == {"a  b"}


def test_too_few_contexts_are_refused(source):
    with pytest.raises(InputError, match=r"31 contexts are wanted, its texts give 30 of at least 4 words"):
        choose_contexts(source, ContextCut(), 31, seed=0)
    with pytest.raises(InputError, match="give 0 of at least 10 words"):
        choose_contexts(source, ContextCut(min_words=10), 1, seed=0)
