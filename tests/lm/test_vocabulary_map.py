"""Distributions carried from one vocabulary to another: by hand, against loops, and what must hold for any."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary, VocabularyMap
from tests.lm.conftest import as_vocabulary

EVERY_KIND = pytest.mark.parametrize("kind", ["shared_tokens", "first_piece"])
# each way of writing bytes to each other one
PAIRS = pytest.mark.parametrize(
    ("source", "target"),
    [
        ("byte_level", "unigram"),
        ("unigram", "byte_level"),
        ("byte_level", "llama2"),
        ("llama2", "byte_level"),
        ("unigram", "mistral"),
        ("gemma", "unigram"),
        ("tiny", "byte_level"),
    ],
)


def distributions(items, size, seed=0):
    logits = torch.randn(items, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (logits * 3).softmax(-1)


def ones(n):
    return torch.ones(n, dtype=torch.float64)


# ---- real vocabularies ----


@PAIRS
def test_shared_tokens_have_the_same_bytes(source, target, vocabularies):
    source, target = vocabularies[source], vocabularies[target]
    token_ids = VocabularyMap(source, target, "shared_tokens").token_ids.tolist()
    known = set(target.token_bytes) - {None}
    assert len(token_ids) == source.size
    assert len(set(token_ids)) > 50
    for data, to in zip(source.token_bytes, token_ids, strict=True):
        assert (target.token_bytes[to] == data) if data in known else to == -1


@PAIRS
def test_first_pieces_are_what_the_tokenizer_makes_of_running_text(source, target, vocabularies):
    source, target = vocabularies[source], vocabularies[target]
    token_ids = VocabularyMap(source, target, "first_piece").token_ids.tolist()
    # no piece of these tokenizers holds a newline and more, so what follows one is encoded by itself
    before = target.encode("\n")
    unknown = target.tokenizer.unk_token_id
    for token_id in random.Random(0).sample(source.ordinary_ids, 200):
        text = source.text(token_id)
        if text.startswith("<id ") or "\n" in text:
            continue
        ids = target.encode("\n" + text)
        assert ids[: len(before)] == before
        pieces = ids[len(before) :]  # none where Unigram takes newline and text together for one unknown token
        assert token_ids[token_id] == (pieces[0] if pieces and unknown not in pieces else -1)


@PAIRS
@EVERY_KIND
def test_mass_arrives_where_its_token_goes(source, target, kind, vocabularies):
    source, target = vocabularies[source], vocabularies[target]
    vocabulary_map = VocabularyMap(source, target, kind)
    probs = distributions(3, source.size)
    mapped = vocabulary_map.map(probs)
    for i, row in enumerate(probs.tolist()):
        arrived, lost, moved = [0.0] * target.size, 0.0, 0.0
        for p, to, data in zip(row, vocabulary_map.token_ids.tolist(), source.token_bytes, strict=True):
            if to == -1:
                lost += p
            else:
                arrived[to] += p
                moved += p * (target.token_bytes[to] != data)
        expected = torch.tensor(arrived, dtype=torch.float64) / (1 - lost)
        torch.testing.assert_close(mapped.probs[i], expected, rtol=1e-11, atol=1e-16)
        assert float(mapped.lost[i]) == pytest.approx(lost, abs=1e-13)
        assert float(mapped.moved[i]) == pytest.approx(moved, abs=1e-13)
        assert (moved > 0) == (kind == "first_piece")


@PAIRS
@EVERY_KIND
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), items=st.integers(1, 5))
def test_no_mass_appears_or_disappears(source, target, kind, vocabularies, seed, items):
    source, target = vocabularies[source], vocabularies[target]
    probs, lost, moved = VocabularyMap(source, target, kind).map(distributions(items, source.size, seed))
    assert probs.shape == (items, target.size)
    assert probs.dtype == lost.dtype == moved.dtype == torch.float64
    assert bool((probs >= 0).all())
    torch.testing.assert_close(probs.sum(1), ones(items), rtol=0, atol=1e-14)
    assert bool(((lost > 0) & (lost < 1) & (moved >= 0) & (lost + moved <= 1)).all())


@EVERY_KIND
def test_a_row_does_not_depend_on_the_others(kind, vocabularies):
    vocabulary_map = VocabularyMap(vocabularies["byte_level"], vocabularies["unigram"], kind)
    probs = distributions(7, vocabularies["byte_level"].size)
    together = vocabulary_map.map(probs)
    for i in range(7):
        alone = vocabulary_map.map(probs[i : i + 1])
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))


def test_a_row_does_not_depend_on_the_others_where_threads_share_the_work(tokenizer):
    # torch divides long rows among threads, but only where there are few of them
    vocabulary_map = VocabularyMap(Vocabulary(tokenizer, 140_000), Vocabulary(tokenizer, 320), "shared_tokens")
    probs = distributions(7, 140_000)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together, alone = vocabulary_map.map(probs), [vocabulary_map.map(row[None]) for row in probs]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together.lost, torch.cat([mapped.lost for mapped in alone]))
    assert torch.equal(together.probs, torch.cat([mapped.probs for mapped in alone]))


def test_float32_distributions_are_carried_in_float64(vocabularies):
    vocabulary_map = VocabularyMap(vocabularies["byte_level"], vocabularies["unigram"], "first_piece")
    probs = distributions(2, vocabularies["byte_level"].size).float()
    assert all(
        torch.equal(a, b) for a, b in zip(vocabulary_map.map(probs), vocabulary_map.map(probs.double()), strict=True)
    )


# ---- the same tokenizer ----


@pytest.mark.parametrize("name", ["byte_level", "unigram", "llama2"])
@EVERY_KIND
def test_the_same_tokenizer_keeps_every_id(name, kind, vocabularies):
    vocabulary = vocabularies[name]
    probs = distributions(3, vocabulary.size)
    mapped = VocabularyMap(vocabulary, vocabulary, kind).map(probs)
    torch.testing.assert_close(mapped.probs, probs, rtol=1e-14, atol=0)
    assert mapped.lost.tolist() == mapped.moved.tolist() == [0.0] * 3


@EVERY_KIND
@pytest.mark.parametrize(("source_size", "target_size"), [(400, 320), (320, 400), (400, 400)])
def test_padding_rows_are_no_tokens(source_size, target_size, kind, tokenizer):
    source, target = Vocabulary(tokenizer, source_size), Vocabulary(tokenizer, target_size)
    probs = distributions(3, source_size)
    mapped = VocabularyMap(source, target, kind).map(probs)
    padding = probs[:, 320:].sum(1)
    torch.testing.assert_close(mapped.lost, padding, rtol=1e-14, atol=0)
    expected = torch.zeros(3, target_size, dtype=torch.float64)
    expected[:, :320] = probs[:, :320] / (1 - padding[:, None])
    torch.testing.assert_close(mapped.probs, expected, rtol=1e-12, atol=0)


@EVERY_KIND
def test_tokens_without_a_logit_are_lost(kind, tokenizer):
    probs = distributions(2, 320)
    mapped = VocabularyMap(Vocabulary(tokenizer, 320), Vocabulary(tokenizer, 300), kind).map(probs)
    torch.testing.assert_close(mapped.lost, probs[:, 300:].sum(1), rtol=1e-14, atol=0)


# ---- by hand ----


def marked(*tokens, merges=(), special=()):
    """A small vocabulary with U+2581 for the space."""
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    raw.add_special_tokens([AddedToken(token, special=True) for token in special])
    return as_vocabulary(raw)


def byte_level(*tokens, merges=()):
    """A small vocabulary of byte-level BPE."""
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return as_vocabulary(raw)


@pytest.fixture(scope="module")
def small():
    source = marked("▁a", "ab", "▁", "é", "c", "<end>", special=["<end>"])
    target = byte_level("a", "b", "Ġ", "Ġa", "ab", "Ã", "©", merges=[("Ġ", "a"), ("a", "b")])
    return source, target


PROBS = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.2]], dtype=torch.float64)


def test_shared_tokens_by_hand(small):
    probs, lost, moved = VocabularyMap(*small, "shared_tokens").map(PROBS)
    # " a", "ab" and " " are tokens of both; "é", "c" and the special one are lost
    torch.testing.assert_close(probs[0], torch.tensor([0, 0, 0.5, 1 / 6, 1 / 3, 0, 0], dtype=torch.float64))
    assert lost.tolist() == pytest.approx([0.4])
    assert moved.tolist() == [0.0]


def test_first_pieces_by_hand(small):
    probs, lost, moved = VocabularyMap(*small, "first_piece").map(PROBS)
    # "é" goes to its first byte; the target has no "c"
    expected = torch.tensor([0, 0, 0.3, 0.1, 0.2, 0.15, 0], dtype=torch.float64) / 0.75
    torch.testing.assert_close(probs[0], expected)
    assert lost.tolist() == pytest.approx([0.25])
    assert moved.tolist() == pytest.approx([0.15])


@EVERY_KIND
def test_tokens_of_the_same_bytes_add_up(kind):
    source = marked("▁a", " a", "b", "▁")
    assert source.token_bytes[:2] == [b" a", b" a"]
    target = byte_level("Ġa", "Ġ", "a", "b", merges=[("Ġ", "a")])
    mapped = VocabularyMap(source, target, kind).map(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    torch.testing.assert_close(mapped.probs, torch.tensor([[0.3, 0.4, 0.0, 0.3]], dtype=torch.float64))
    assert mapped.moved.tolist() == [0.0]


@EVERY_KIND
def test_of_several_tokens_of_the_same_bytes_the_tokenizers_own_gets_all(kind, vocabularies):
    source, target = vocabularies["byte_level"], vocabularies["llama2"]
    letter = target.tokenizer.get_vocab()["a"]
    assert target.token_bytes.count(b"a") == 2
    assert int(VocabularyMap(source, target, kind).token_ids[source.token_id("a")]) == letter


def test_a_first_piece_has_no_space_put_in_front():
    source = byte_level("a", "b", "ab", "Ġ", "Ġa", merges=[("a", "b")])
    target = marked("▁", "▁a", "a", "b", merges=[("▁", "a")])
    assert VocabularyMap(source, target, "first_piece").token_ids.tolist() == [2, 3, 2, 0, 1]


@EVERY_KIND
def test_a_row_that_lost_everything_is_not_a_number(kind, small):
    probs = torch.stack([PROBS[0], torch.tensor([0, 0, 0, 0, 0.25, 0.75], dtype=torch.float64)])
    mapped = VocabularyMap(*small, kind).map(probs)
    assert bool(mapped.probs[0].isfinite().all())
    assert bool(mapped.probs[1].isnan().all())
    assert float(mapped.lost[1]) == 1.0


@EVERY_KIND
def test_no_distributions_are_mapped_to_none(kind, small):
    assert [x.shape[0] for x in VocabularyMap(*small, kind).map(PROBS[:0])] == [0, 0, 0]


@EVERY_KIND
def test_tokenizers_whose_bytes_are_not_known_are_refused(kind, small):
    words = as_vocabulary(Tokenizer(models.WordLevel({"a": 0, "b": 1}, "a")))
    with pytest.raises(InputError, match="writes its tokens in a way whose bytes are not known"):
        VocabularyMap(words, small[1], kind)
    with pytest.raises(InputError, match="writes its tokens in a way whose bytes are not known"):
        VocabularyMap(small[0], words, kind)
