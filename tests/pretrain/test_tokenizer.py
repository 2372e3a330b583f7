import pytest

from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary
from lit_prompt.pretrain import TokenizerTraining, train_tokenizer

TEXTS = ["Once upon a time there was a king.", "Yes, said the fox, and no, said the crow; one, two.", "été"] * 20


@pytest.mark.parametrize(
    ("kind", "size"), [("byte_bpe", 300), ("unigram", 60), ("byte_fallback_bpe", 330)], ids=lambda x: str(x)
)
def test_a_trained_tokenizer_spells_its_text(kind, size):
    tokenizer = train_tokenizer(iter(TEXTS), TokenizerTraining(kind, size))
    assert 30 < len(tokenizer) <= size
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    vocabulary = Vocabulary(tokenizer, len(tokenizer))
    for text in TEXTS[:3]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) < len(text) or text == "été"
        assert tokenizer.decode(ids) == text
        assert b"".join(vocabulary.token_bytes[i] for i in ids).decode().removeprefix(" ") == text
    # what the text did not hold
    ids = vocabulary.continuation_ids("Ω\n")
    assert (b"".join(vocabulary.token_bytes[i] for i in ids).decode() == "Ω\n") == (kind != "unigram")


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(InputError, match="vocab_size is 200; byte_bpe needs more than 257"):
        train_tokenizer(iter(TEXTS), TokenizerTraining("byte_bpe", 200))
