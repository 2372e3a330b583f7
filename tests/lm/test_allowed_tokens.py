"""Which tokens a hard prompt may hold."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, Vocabulary

KINDS = ["tiny", "byte_level", "unigram", "llama2", "mistral", "gemma"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_special_tokens_are_left_out_by_default(vocabularies, kind):
    vocabulary = vocabularies[kind]
    ids = AllowedTokens("any").ids(vocabulary)
    assert ids == vocabulary.ordinary_ids == sorted(set(ids))
    assert not set(ids) & set(vocabulary.special_ids)
    assert not set(AllowedTokens().ids(vocabulary)) & set(vocabulary.special_ids)
    assert AllowedTokens("any", special=True).ids(vocabulary) == sorted(ids + vocabulary.special_ids)


@every_kind
def test_characters(vocabularies, kind):
    vocabulary = vocabularies[kind]
    everything = AllowedTokens("any").ids(vocabulary)
    printable, ascii_ = (AllowedTokens(characters).ids(vocabulary) for characters in ("printable", "ascii"))
    assert printable == AllowedTokens().ids(vocabulary)
    assert set(ascii_) <= set(printable) <= set(everything)
    for i in everything:
        text = vocabulary.token_bytes[i].decode(errors="surrogateescape")
        # half a character is not printable, and what stands for one that is unknown is not readable
        assert (i in printable) == (text != "" and text.isprintable() and "\ufffd" not in text)
        assert (i in ascii_) == (text != "" and all(" " <= c <= "~" for c in text))


def test_characters_of_special_tokens_do_not_matter(vocabularies):
    vocabulary = vocabularies["tiny"]
    assert AllowedTokens(special=True).ids(vocabulary) == sorted(
        [*AllowedTokens().ids(vocabulary), *vocabulary.special_ids]
    )


def test_what_cannot_be_read_is_left_out_by_default():
    pieces = ["\x07", "\ue000", "\ufffd", "a\ufffd", "\u200b", "\u202e", "\n", "\xa0", "yes", " é", "日"]
    raw = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    raw.decoder = decoders.Metaspace()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>"), raw.get_vocab_size())
    assert [pieces[i - 1] for i in AllowedTokens().ids(vocabulary)] == ["yes", " é", "日"]
    assert len(AllowedTokens("any").ids(vocabulary)) == len(pieces)


def test_tokens_of_a_tokenizer_whose_bytes_are_not_known_are_told_by_their_texts():
    raw = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "\x07": 3, "é": 4}, unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]"), 5)
    assert AllowedTokens().ids(vocabulary) == [1, 2, 4]
    assert AllowedTokens("ascii").ids(vocabulary) == [1, 2]


def test_allow_and_block_by_text_and_id(vocabularies):
    vocabulary = vocabularies["byte_level"]
    yes, the = vocabulary.token_id(" yes"), vocabulary.token_id(" the")
    assert AllowedTokens(allow=[" yes", the, 40]).ids(vocabulary) == sorted({yes, the, 40})
    assert AllowedTokens(allow=[" yes", the, 40], block=[40, " the"]).ids(vocabulary) == [yes]
    assert AllowedTokens("any", block=[" yes", the]).ids(vocabulary) == [
        i for i in vocabulary.ordinary_ids if i not in (yes, the)
    ]


def test_a_listed_token_is_allowed_whatever_its_characters(vocabularies):
    vocabulary = vocabularies["byte_level"]
    newline, yes = vocabulary.token_id("\n"), vocabulary.token_id(" yes")
    assert AllowedTokens("printable", allow=[newline, yes]).ids(vocabulary) == sorted([newline, yes])


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
