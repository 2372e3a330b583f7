"""Which tokens a hard prompt may hold."""

import pytest

from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens

KINDS = ["tiny", "byte_level", "unigram", "llama2", "mistral", "gemma"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_special_tokens_are_left_out_by_default(vocabularies, kind):
    vocabulary = vocabularies[kind]
    ids = AllowedTokens().ids(vocabulary)
    assert ids == vocabulary.ordinary_ids == sorted(set(ids))
    assert not set(ids) & set(vocabulary.special_ids)
    assert AllowedTokens(special=True).ids(vocabulary) == sorted(ids + vocabulary.special_ids)


@every_kind
def test_characters(vocabularies, kind):
    vocabulary = vocabularies[kind]
    everything = AllowedTokens().ids(vocabulary)
    printable, ascii_ = (AllowedTokens(characters).ids(vocabulary) for characters in ("printable", "ascii"))
    assert set(ascii_) <= set(printable) <= set(everything)
    for i in everything:
        text = vocabulary.token_bytes[i].decode(errors="surrogateescape")
        assert (i in printable) == (text != "" and text.isprintable())  # half a character is not printable
        assert (i in ascii_) == (text != "" and all(" " <= c <= "~" for c in text))


def test_characters_of_special_tokens_do_not_matter(vocabularies):
    vocabulary = vocabularies["tiny"]
    assert not set(AllowedTokens("printable", special=True).ids(vocabulary)) & set(vocabulary.special_ids)


def test_allow_and_block_by_text_and_id(vocabularies):
    vocabulary = vocabularies["byte_level"]
    yes, the = vocabulary.token_id(" yes"), vocabulary.token_id(" the")
    assert AllowedTokens(allow=[" yes", the, 40]).ids(vocabulary) == sorted({yes, the, 40})
    assert AllowedTokens(allow=[" yes", the, 40], block=[40, " the"]).ids(vocabulary) == [yes]
    assert AllowedTokens(block=[" yes", the]).ids(vocabulary) == [
        i for i in vocabulary.ordinary_ids if i not in (yes, the)
    ]


def test_lists_and_characters_hold_together(vocabularies):
    vocabulary = vocabularies["byte_level"]
    newline, yes = vocabulary.token_id("\n"), vocabulary.token_id(" yes")
    assert AllowedTokens("printable", allow=[newline, yes]).ids(vocabulary) == [yes]


def test_a_special_token_in_the_list_needs_special(vocabularies):
    vocabulary = vocabularies["tiny"]
    (end,) = vocabulary.special_ids
    assert AllowedTokens(allow=["<|endoftext|>", 40]).ids(vocabulary) == [40]
    assert AllowedTokens(allow=["<|endoftext|>", 40], special=True).ids(vocabulary) == sorted([end, 40])


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (AllowedTokens(allow=[" zebra"]), r"^model\.tokens\.allow: ' zebra' is not exactly one token"),
        (AllowedTokens(block=[" zebra"]), r"^model\.tokens\.block: ' zebra' is not exactly one token"),
        (AllowedTokens(allow=[320]), r"^model\.tokens\.allow: token id 320 is not among 0 to 319"),
        (AllowedTokens(block=[-1]), r"^model\.tokens\.block: token id -1 is not among 0 to 319"),
        (AllowedTokens(allow=[]), r"^model\.tokens leaves no token"),
        (AllowedTokens(allow=["a"], block=["a"]), r"^model\.tokens leaves no token"),
    ],
)
def test_mistakes_name_their_key(vocabularies, tokens, expected):
    with pytest.raises(InputError, match=expected) as raised:
        tokens.ids(vocabularies["tiny"])
    assert "\n" not in str(raised.value)
