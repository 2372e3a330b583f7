"""Token ids, their texts and the way back, on three real tokenizers."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions, Vocabulary
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA

NAMES = ["tiny", "byte_level", "unigram"]
ALL = pytest.mark.parametrize("name", NAMES)


def named(vocabulary):
    """Ordinary tokens that have a text."""
    return [i for i in vocabulary.ordinary_ids if not vocabulary.text(i).startswith("<id ")]


@ALL
def test_a_text_leads_back_to_a_token_with_that_text(name, vocabularies):
    vocabulary = vocabularies[name]
    ids = named(vocabulary)
    assert len(ids) > 150
    lost = [i for i in ids if vocabulary.text(vocabulary.token_id(vocabulary.text(i))) != vocabulary.text(i)]
    assert lost == []


@ALL
def test_a_text_is_what_decoding_adds(name, vocabularies):
    vocabulary = vocabularies[name]
    before = vocabulary.encode("Once upon")
    for i in named(vocabulary):
        assert vocabulary.decode([*before, i]) == "Once upon" + vocabulary.text(i)


@ALL
def test_texts_of_a_sentence_join_to_it(name, vocabularies):
    vocabulary = vocabularies[name]
    sentence = " once there was a king, and his name was Hans; yes or no"
    assert "".join(vocabulary.text(i) for i in vocabulary.encode(sentence)) == sentence


@pytest.mark.parametrize("name", ["tiny", "byte_level"])
def test_only_bytes_of_longer_characters_have_no_text(name, vocabularies):
    vocabulary = vocabularies[name]
    nameless = set(vocabulary.ordinary_ids) - set(named(vocabulary))
    assert len(nameless) >= 128  # bytes 0x80 to 0xff
    for i in nameless:
        assert vocabulary.text(i) == f"<id {i}>"
        assert "\ufffd" in vocabulary.decode([i])


def test_every_unigram_token_has_a_text(vocabularies):
    assert named(vocabularies["unigram"]) == vocabularies["unigram"].ordinary_ids


@pytest.mark.parametrize(
    ("name", "word"), [("tiny", "a"), ("byte_level", "no"), ("unigram", "no"), ("byte_level", "a"), ("unigram", "a")]
)
def test_the_space_before_a_word_counts(name, word, vocabularies):
    vocabulary = vocabularies[name]
    without, with_space = vocabulary.token_id(word), vocabulary.token_id(" " + word)
    assert without != with_space
    assert vocabulary.text(without) == word
    assert vocabulary.text(with_space) == " " + word


@pytest.mark.parametrize("name", ["llama2", "mistral", "gemma"])
def test_words_with_and_without_a_space_are_found_with_byte_fallback(name, vocabularies):
    # before a text that begins with a space, some of these tokenizers put another one
    vocabulary = vocabularies[name]
    names = vocabulary.tokenizer.get_vocab()
    assert vocabulary.token_id("no,") == names["no,"]
    assert vocabulary.token_id(" no,") == names["▁no,"]
    assert vocabulary.token_id("  ") == names["▁▁"]
    assert vocabulary.token_id("\n") == names["<0x0A>"]


def test_yes_is_one_token_only_with_its_space(vocabularies):
    vocabulary = vocabularies["byte_level"]
    assert vocabulary.text(vocabulary.token_id(" yes")) == " yes"
    with pytest.raises(
        InputError, match=r"'yes' is not exactly one .*; with a space before it, ' yes', it is one token"
    ):
        vocabulary.token_id("yes")


@pytest.mark.parametrize("ask", ["token_id", "encode", "continuation_ids"])
def test_half_a_character_is_no_text(ask, vocabularies):
    with pytest.raises(InputError, match=r"^'a\\ud800' is no text: it holds half a surrogate pair"):
        getattr(vocabularies["llama2"], ask)("a\ud800")


@ALL
def test_special_tokens_are_found_by_name_and_are_not_ordinary(name, vocabularies):
    vocabulary = vocabularies[name]
    special = vocabulary.token_id("<|endoftext|>")
    assert special == vocabulary.tokenizer.eos_token_id
    assert special not in vocabulary.ordinary_ids
    assert vocabulary.text(special) == "<|endoftext|>"


@ALL
@pytest.mark.parametrize("text", ["", "xyzzy", "no no", "\n\n\n", "中"])
def test_what_is_not_one_token_is_shown_in_its_pieces(name, text, vocabularies):
    vocabulary = vocabularies[name]
    with pytest.raises(InputError) as error:
        vocabulary.token_id(text)
    ids = vocabulary.encode(text)
    pieces = [vocabulary.text(i) for i in ids]
    assert f"{text!r} is not exactly one token of this LM: it splits into {pieces} (ids {ids})" in str(error.value)
    assert "\n" not in str(error.value)


@ALL
def test_encode_adds_no_special_tokens_but_reads_spelled_ones(name, vocabularies):
    vocabulary = vocabularies[name]
    end = vocabulary.tokenizer.eos_token_id
    assert end not in vocabulary.encode("once upon")
    assert vocabulary.encode("<|endoftext|>once")[0] == end


@ALL
def test_ordinary_ids_are_sorted_and_within_the_logits(name, vocabularies):
    vocabulary = vocabularies[name]
    ids = vocabulary.ordinary_ids
    assert ids == sorted(set(ids))
    assert 0 <= ids[0] <= ids[-1] < vocabulary.size
    assert set(ids).isdisjoint(vocabulary.tokenizer.all_special_ids)


@ALL
def test_ids_are_checked(name, vocabularies):
    vocabulary = vocabularies[name]
    assert vocabulary.checked_id(0, "x") == 0
    assert vocabulary.checked_id(vocabulary.size - 1, "x") == vocabulary.size - 1
    assert vocabulary.checked_id("a", "x") == vocabulary.token_id("a")
    for bad in (-1, vocabulary.size):
        with pytest.raises(InputError, match=f"^file:3: token id {bad} is not among 0 to {vocabulary.size - 1}"):
            vocabulary.checked_id(bad, "file:3")
    with pytest.raises(InputError, match=r"^file:3: 'xyzzy' is not exactly one token"):
        vocabulary.checked_id("xyzzy", "file:3")


# ---- vocabularies whose size is not the tokenizer's ----


def test_rows_of_padding_have_no_text(tokenizer):
    vocabulary = Vocabulary(tokenizer, 400)
    assert vocabulary.text(320) == "<id 320>"
    assert vocabulary.text(399) == "<id 399>"
    assert max(vocabulary.ordinary_ids) == 319
    assert vocabulary.defined_ids == list(range(320))
    assert vocabulary.undefined_ids == list(range(320, 400))
    assert vocabulary.checked_id(319, "x") == 319
    with pytest.raises(InputError, match=r"^x: token id 399 stands for no token: .* 400 logits, its tokenizer 320 tok"):
        vocabulary.checked_id(399, "x")


def test_placeholders_stand_for_no_token_unless_the_tokenizer_reads_them(tokenizer):
    """Those of Qwen are names in the vocabulary alone, those of Gemma are read; byte tokens are tokens."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    names = ["[PAD320]", "<unused7>", "<|extra_3|>", "<0x0A>", "[INST]"]
    description["model"]["vocab"] |= {name: 320 + i for i, name in enumerate(names)}
    raw = Tokenizer.from_str(json.dumps(description))
    raw.add_tokens(["<unused7>"])
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw), 330)
    assert vocabulary.undefined_ids == [320, 322, *range(325, 330)]
    assert vocabulary.ordinary_ids == [*range(1, 320), 321, 323, 324]
    assert vocabulary.checked_id(320, "x") == 320  # who asks for it by its id gets it
    assert vocabulary.token_bytes[320] is None
    with pytest.raises(InputError, match="not exactly one token"):
        vocabulary.token_id("[PAD320]")


def test_tokens_without_a_logit_are_refused(tokenizer):
    vocabulary = Vocabulary(tokenizer, 300)
    assert max(vocabulary.ordinary_ids) == 299
    assert vocabulary.token_id(" a") == 260
    with pytest.raises(InputError, match="'no' is token 301, but the LM has logits for 300 tokens only"):
        vocabulary.token_id("no")


# ---- special tokens without a role, unknown words ----


@pytest.fixture(scope="module")
def with_reserved(tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.add_special_tokens([AddedToken("<|reserved|>", special=True)])
    raw.add_tokens([AddedToken("plain", special=False)])
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>"), 330)


def test_special_tokens_without_a_role_are_not_ordinary(with_reserved):
    reserved = with_reserved.tokenizer.convert_tokens_to_ids("<|reserved|>")
    assert reserved == 320
    assert reserved not in with_reserved.ordinary_ids
    assert with_reserved.token_id("<|reserved|>") == reserved


def test_added_tokens_that_are_not_special_are_ordinary(with_reserved):
    added = with_reserved.tokenizer.convert_tokens_to_ids("plain")
    assert added in with_reserved.ordinary_ids
    assert with_reserved.token_id("plain") == added


def test_an_unknown_word_is_not_the_unknown_token():
    words = {"<unk>": 0, "a": 1, "cat": 2}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>"), 3)
    assert vocabulary.encode("dog") == [0]
    with pytest.raises(InputError, match="'dog' is not exactly one token"):
        vocabulary.token_id("dog")
    assert vocabulary.token_id("<unk>") == 0


# ---- loading, fingerprint ----


@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=["llama", "gpt2"])
def test_load_reads_the_size_from_the_config(folder):
    vocabulary = Vocabulary.load(str(folder), LMOptions())
    assert vocabulary.size == len(vocabulary.tokenizer)


def test_a_vocabulary_knows_which_lm_it_is_of(tokenizer):
    options = LMOptions(dtype="float64")
    vocabulary = Vocabulary.load(str(EMBEDDED_LLAMA), options)
    assert vocabulary.lm == str(EMBEDDED_LLAMA)
    assert vocabulary.options is options
    assert Vocabulary(tokenizer, 320).lm is None
    assert Vocabulary(tokenizer, 320).options == LMOptions()


def test_load_names_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="--lm: no folder") as error:
        Vocabulary.load(str(tmp_path / "absent"), LMOptions())
    assert "\n" not in str(error.value)


def test_fingerprints_tell_vocabularies_apart(vocabularies, tokenizer, with_reserved):
    different = [vocabularies[name] for name in NAMES]
    found = {v.fingerprint for v in [*different, Vocabulary(tokenizer, 321), with_reserved]}
    assert len(found) == 5
    assert Vocabulary(tokenizer, 320).fingerprint == vocabularies["tiny"].fingerprint
    assert all(len(f) == 16 for f in found)


@pytest.mark.parametrize("name", [*NAMES, "llama2", "mistral", "gemma"])
def test_a_text_after_another_gets_no_space_of_its_own(name, vocabularies):
    vocabulary = vocabularies[name]
    before = vocabulary.encode("The king")
    for text in (" and no", "; no", "", "  two"):
        assert vocabulary.encode("The king" + text) == before + vocabulary.encode_after(text)


def test_special_tokens_are_read_after_another_text_too(vocabularies):
    vocabulary = vocabularies["tiny"]
    assert vocabulary.encode_after("<|endoftext|>") == vocabulary.special_ids


# ---- texts with tokens that the LM has no embedding for ----


def test_a_text_with_a_token_beyond_the_embeddings_is_refused(tokenizer):
    short = Vocabulary(tokenizer, 300)
    beyond = next(i for i in range(300, 320) if tokenizer.encode(tokenizer.decode([i])) == [i])
    text = tokenizer.decode([beyond])
    said = rf"holds tokens that the LM does not know: .* \({beyond}\); it has embeddings for 300 tokens"
    for encode in (short.encode, short.encode_start, short.encode_after):
        with pytest.raises(InputError, match=said):
            encode(text)
    assert short.encode_starts([text]) == [[beyond]]  # to compare with
