"""Tokens as bytes and back, on real tokenizers of every kind and on small ones for each rule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PythonBackend
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary
from tests.lm.conftest import as_vocabulary

BYTE_LEVEL = ["tiny", "byte_level"]
FALLBACK = ["llama2", "mistral", "gemma"]
ALL = pytest.mark.parametrize("name", [*BYTE_LEVEL, "unigram", *FALLBACK])
EVERY_BYTE = pytest.mark.parametrize("name", [*BYTE_LEVEL, *FALLBACK])

# words that the tokenizers know among characters of every length, rows of spaces, controls; no marker, see below
TEXTS = st.lists(
    st.sampled_from(
        [" king", "the", "déjà", "  ", "    ", " ", "\n", "\t", "🙂", "👩‍👩‍👧", "中文", "e\u0301", "\0", "<s>"]
    )
    | st.text(max_size=4),
    max_size=8,
).map(lambda parts: "".join(parts).replace("▁", "_"))


def joined(vocabulary, ids):
    return b"".join(vocabulary.token_bytes[i] for i in ids)


# ---- the bytes of each token ----


@ALL
def test_bytes_are_what_decoding_adds(name, vocabularies):
    vocabulary = vocabularies[name]
    texts = [(i, vocabulary.text(i)) for i in vocabulary.ordinary_ids]
    compared = [(vocabulary.token_bytes[i], text.encode()) for i, text in texts if not text.startswith("<id ")]
    assert len(compared) > 150
    assert [pair for pair in compared if pair[0] != pair[1]] == []


@EVERY_BYTE
def test_every_byte_is_a_token(name, vocabularies):
    found = {data for data in vocabularies[name].token_bytes if data is not None}
    assert {bytes([b]) for b in range(256)} <= found


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_characters_are_those_of_gpt2(name, vocabularies):
    vocabulary = vocabularies[name]
    for b, character in bytes_to_unicode().items():
        assert vocabulary.token_bytes[vocabulary.tokenizer.get_vocab()[character]] == bytes([b])


@pytest.mark.parametrize("name", FALLBACK)
def test_byte_tokens_are_bytes(name, vocabularies):
    assert vocabularies[name].token_bytes[3 : 3 + 256] == [bytes([b]) for b in range(256)]


@ALL
def test_what_is_no_text_has_no_bytes(name, vocabularies):
    vocabulary = vocabularies[name]
    padded = Vocabulary(vocabulary.tokenizer, vocabulary.size + 7)
    special = set(vocabulary.tokenizer.all_special_ids)
    expected = [i for i in range(padded.size) if i in special or i >= vocabulary.size]
    assert len(padded.token_bytes) == padded.size
    assert [i for i, data in enumerate(padded.token_bytes) if data is None] == expected


def test_tokens_without_a_logit_have_no_bytes_and_spell_nothing(tokenizer):
    vocabulary = Vocabulary(tokenizer, 300)
    assert len(vocabulary.token_bytes) == 300
    assert vocabulary.continuation_ids(" a") == [260]
    assert tokenizer.encode("no") == [301]
    assert vocabulary.continuation_ids("no") == []


# ---- from texts and bytes to tokens and back ----


@pytest.mark.parametrize("name", [*BYTE_LEVEL, "gemma"])
@settings(deadline=None)
@given(text=TEXTS)
def test_tokens_of_a_text_join_to_it(name, vocabularies, text):
    text = text.replace("<s>", "")
    assert joined(vocabularies[name], vocabularies[name].encode(text)) == text.encode()


@pytest.mark.parametrize("name", ["llama2", "mistral"])
@settings(deadline=None)
@given(text=TEXTS.map(lambda text: text.replace("<s>", "")).filter(len))
def test_tokens_of_a_text_join_to_it_with_the_space_that_the_tokenizer_puts_in_front(name, vocabularies, text):
    front = " " if name == "llama2" or not text.startswith(" ") else ""
    assert joined(vocabularies[name], vocabularies[name].encode(text)) == (front + text).encode()


@EVERY_BYTE
@settings(deadline=None)
@given(text=TEXTS)
def test_tokens_that_go_on_join_to_the_text(name, vocabularies, text):
    assert joined(vocabularies[name], vocabularies[name].continuation_ids(text)) == text.encode()


@EVERY_BYTE
@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=3) | TEXTS.map(str.encode), max_size=4))
def test_tokens_that_go_on_join_to_any_bytes(name, vocabularies, parts):
    data = b"".join(parts).replace("▁".encode(), b"")
    assert joined(vocabularies[name], vocabularies[name].continuation_ids(data)) == data


@EVERY_BYTE
def test_every_token_is_spelled_again(name, vocabularies):
    vocabulary = vocabularies[name]
    for data in vocabulary.ids_by_bytes:
        assert joined(vocabulary, vocabulary.continuation_ids(data)) == data


@pytest.mark.parametrize("name", FALLBACK)
@settings(deadline=None)
@given(text=TEXTS.map(lambda text: text.replace("<s>", "")))
def test_tokens_that_go_on_are_those_of_running_text(name, vocabularies, text):
    # no piece holds a newline, so what follows one is encoded by itself
    vocabulary = vocabularies[name]
    before = vocabulary.encode("\n")
    assert vocabulary.token_bytes[before[-1]] == b"\n"
    assert vocabulary.encode("\n" + text) == before + vocabulary.continuation_ids(text)


@pytest.mark.parametrize("name", BYTE_LEVEL)
@settings(deadline=None)
@given(text=TEXTS)
def test_byte_level_tokens_that_go_on_are_those_of_the_text(name, vocabularies, text):
    assert vocabularies[name].continuation_ids(text) == vocabularies[name].encode(text)


@settings(deadline=None)
@given(text=TEXTS)
def test_unigram_spells_all_or_nothing(vocabularies, text):
    vocabulary = vocabularies["unigram"]
    known = {character for data in vocabulary.token_bytes if data for character in data.decode()}
    ids = vocabulary.continuation_ids(text)
    assert joined(vocabulary, ids) == (text.encode() if set(text) <= known else b"")


@settings(deadline=None)
@given(words=st.lists(st.sampled_from(["king", " king", "  ", " ", "no", "Hans", ";"]), min_size=1))
def test_unigram_tokens_that_go_on_are_those_of_running_text(vocabularies, words):
    # no piece holds the unknown character, so what follows one is encoded by itself
    vocabulary, text = vocabularies["unigram"], "".join(words)
    before = vocabulary.encode("\n")
    assert before[-1] == vocabulary.tokenizer.unk_token_id
    assert vocabulary.encode("\n" + text) == before + vocabulary.continuation_ids(text)


@pytest.mark.parametrize("data", [b"\xc3", b"a\xff", b"\xf0\x9f\x99 no"])
def test_unigram_has_no_tokens_for_parts_of_characters(data, vocabularies):
    assert vocabularies["unigram"].continuation_ids(data) == []


@ALL
def test_a_word_that_goes_on_has_no_space(name, vocabularies):
    vocabulary = vocabularies[name]
    assert joined(vocabulary, vocabulary.continuation_ids("king")) == b"king"
    assert joined(vocabulary, vocabulary.continuation_ids(" king ")) == b" king "
    assert vocabulary.continuation_ids("") == []


@ALL
def test_names_of_special_tokens_are_text(name, vocabularies):
    vocabulary = vocabularies[name]
    special = vocabulary.tokenizer.all_special_ids
    for text in vocabulary.tokenizer.all_special_tokens:
        ids = vocabulary.continuation_ids(text)
        assert not set(ids) & set(special)
        # Unigram's own pieces include them, and it would choose no others
        assert joined(vocabulary, ids) == (b"" if name == "unigram" else text.encode())


@pytest.mark.parametrize("name", ["unigram", *FALLBACK])
def test_a_marker_in_a_text_is_a_space(name, vocabularies):
    assert vocabularies[name].continuation_ids("▁a") == vocabularies[name].continuation_ids(" a") != []


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_bytes_within_a_character_are_merged(name, vocabularies):
    # as they are in a text that holds the whole character
    vocabulary = vocabularies[name]
    partial = {i: data for data, i in vocabulary.ids_by_bytes.items() if "\ufffd" in data.decode(errors="replace")}
    assert len(partial) >= 128
    assert name == "tiny" or max(map(len, partial.values())) > 1
    assert {i: vocabulary.continuation_ids(data) for i, data in partial.items()} == {i: [i] for i in partial}


@ALL
def test_the_tokenizer_itself_stays_as_it_was(name, vocabularies):
    vocabulary = vocabularies[name]
    before = vocabulary.tokenizer.backend_tokenizer.to_str()
    text = " the king" + vocabulary.tokenizer.eos_token
    ids = vocabulary.encode(text)
    vocabulary.continuation_ids("no" + vocabulary.tokenizer.eos_token)
    assert vocabulary.encode(text) == ids
    assert vocabulary.tokenizer.backend_tokenizer.to_str() == before


# ---- several tokens of the same bytes ----


def test_the_token_that_the_tokenizer_uses_stands_for_its_bytes(vocabularies):
    vocabulary = vocabularies["llama2"]
    letter = vocabulary.tokenizer.get_vocab()["a"]
    assert vocabulary.token_bytes.count(b"a") == 2  # and <0x61>
    assert letter > 3 + 0x61
    assert vocabulary.ids_by_bytes[b"a"] == letter
    assert vocabulary.ids_by_bytes[b"\xff"] == 3 + 0xFF


def marked(tokens, merges=(), **settings):
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges), **settings))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return raw


def test_the_lowest_id_stands_for_bytes_that_the_tokenizer_spells_otherwise():
    vocabulary = as_vocabulary(marked(["a", "b", "▁", "b▁a", "b a"]))
    assert vocabulary.token_bytes == [b"a", b"b", b" ", b"b a", b"b a"]
    assert vocabulary.continuation_ids("b a") == [1, 2, 0]
    assert vocabulary.ids_by_bytes[b"b a"] == 3


# ---- rules of single tokenizers ----


def test_byte_tokens_of_a_tokenizer_without_byte_fallback_are_text():
    vocabulary = as_vocabulary(marked(["a", "▁", "<0x0A>", "<0xFF>"]))
    assert vocabulary.token_bytes == [b"a", b" ", b"<0x0A>", b"<0xFF>"]
    assert vocabulary.continuation_ids("\n") == []
    assert vocabulary.continuation_ids(b"\xff") == []


@pytest.mark.parametrize("by", ["model", "decoder"])
def test_either_the_model_or_the_decoder_tells_of_byte_fallback(by):
    raw = marked(["a", "▁", "<0x0A>"], byte_fallback=by == "model")
    if by == "decoder":
        raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    assert as_vocabulary(raw).token_bytes == [b"a", b" ", b"\n"]


def test_an_unknown_token_has_no_bytes_even_where_nothing_declares_it_special():
    vocabulary = as_vocabulary(marked(["a", "<unk>"], unk_token="<unk>"))
    assert vocabulary.token_bytes == [b"a", None]
    assert vocabulary.encode("b")[-1] == 1
    assert vocabulary.continuation_ids("ab") == []


def test_characters_that_a_tokenizer_leaves_out_are_not_left_out_here():
    vocabulary = as_vocabulary(marked(["a", "▁"]))
    assert vocabulary.encode("ab") == [1, 0]
    assert vocabulary.continuation_ids("ab") == []


def test_the_marker_is_the_tokenizers_own():
    raw = marked(["a", "_a", "▁"])
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace("_"), decoders.Metaspace("_")
    assert as_vocabulary(raw).token_bytes == [b"a", b" a", "▁".encode()]


@pytest.mark.parametrize("text", ["  ", "naïve", "Ġx"])
def test_added_tokens_of_byte_level_are_literal(text, tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.add_tokens([AddedToken(f"<{k}>", special=k % 2 == 0) for k in range(20)])
    raw.add_tokens([AddedToken(text, special=False)])
    vocabulary = as_vocabulary(raw)
    assert vocabulary.token_bytes[340] == text.encode()
    assert vocabulary.continuation_ids(f"a{text}") == [vocabulary.token_id("a"), 340]
    assert vocabulary.continuation_ids("<3><17>") == [323, 337]


def test_an_added_token_that_byte_level_bpe_has_already_stays_its_byte(tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.add_tokens([AddedToken("é", special=False)])
    assert raw.get_vocab_size() == 320
    vocabulary = as_vocabulary(raw)
    assert vocabulary.token_bytes[raw.token_to_id("é")] == b"\xe9"


def test_markers_in_added_tokens_are_spaces():
    raw = marked(["a", "▁"])
    raw.add_tokens([AddedToken("▁▁", normalized=False, special=False)])
    assert as_vocabulary(raw).token_bytes == [b"a", b" ", b"  "]


@pytest.mark.parametrize(
    ("normalizer", "text", "normalized"),
    [
        (normalizers.NFC(), "e\u0301 no", "\u00e9 no"),
        (normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), "ﬁN", "fin"),
        (normalizers.Sequence([normalizers.Strip(), normalizers.Prepend(" ")]), " a ", " a "),
    ],
)
def test_tokens_join_to_the_text_as_the_tokenizer_normalises_it(normalizer, text, normalized, tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.normalizer = normalizer
    vocabulary = as_vocabulary(raw)
    assert joined(vocabulary, vocabulary.continuation_ids(text)) == normalized.encode()


def test_no_space_in_front_in_byte_level(tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()])
    vocabulary = as_vocabulary(raw)
    assert joined(vocabulary, vocabulary.encode("no")) == b" no"
    assert joined(vocabulary, vocabulary.continuation_ids("no")) == b"no"


def test_spaces_survive_a_split_that_takes_them_away():
    # XLM-R and older T5: words are split first, then each gets its marker
    raw = marked(["a", "b", "▁"], [])
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    vocabulary = as_vocabulary(raw)
    assert vocabulary.encode("a b") == [2, 0, 2, 1]
    assert vocabulary.continuation_ids("a b") == [0, 2, 1]
    assert vocabulary.continuation_ids(" a b ") == [2, 0, 2, 1, 2]


def test_truncation_and_padding_are_left_out(tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.enable_truncation(2)
    raw.enable_padding(length=8)
    assert len(as_vocabulary(raw).continuation_ids("x" * 5)) == 5


# ---- tokenizers of other vocabularies ----


def word_piece():
    raw = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return raw


def end_of_word():
    raw = Tokenizer(models.BPE({"a": 0, "a</w>": 1}, [], end_of_word_suffix="</w>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    return raw


def bytes_in_the_normalizer():
    raw = Tokenizer(models.BPE({"a": 0}, []))
    raw.normalizer, raw.decoder = normalizers.ByteLevel(), decoders.ByteLevel()
    return raw


@pytest.mark.parametrize(
    "make", [word_piece, end_of_word, bytes_in_the_normalizer, lambda: Tokenizer(models.WordLevel({"a": 0}, "a"))]
)
def test_other_kinds_are_refused_in_one_line(make):
    vocabulary = as_vocabulary(make())
    with pytest.raises(InputError, match="the tokenizer of the LM writes its tokens in a way whose bytes are") as error:
        _ = vocabulary.token_bytes
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="byte-level BPE, SentencePiece or Unigram"):
        vocabulary.continuation_ids("a")


def test_a_tokenizer_that_is_a_program_of_its_own_is_refused():
    class Letters(PythonBackend):
        vocab_size = 26

        def get_vocab(self):
            return {chr(97 + i): i for i in range(26)}

    with pytest.raises(InputError, match="the tokenizer of the LM writes its tokens"):
        _ = Vocabulary(Letters(), 26).token_bytes
