"""Whether a prompt's text gives its tokens again, with tokenizers of every kind."""

import itertools

import pytest
import torch

from lit_prompt.lm.round_trip import RoundTrip
from tests.places import round_trip

KINDS = ["tiny", "byte_level", "unigram", "llama2", "mistral", "gemma"]
AROUND = [("", ""), ("The king", " and"), ("Yes, ", ""), ("", " no")]
every_kind = pytest.mark.parametrize("kind", KINDS)


def random_prompts(vocabulary, count, length, seed=0):
    ids = torch.tensor(vocabulary.ordinary_ids)
    chosen = torch.randint(len(ids), (count, length), generator=torch.Generator().manual_seed(seed))
    return ids[chosen].tolist()


def pasted(vocabulary, text):
    """Tokens of a text that a user pastes, by the tokenizer itself."""
    return vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"]


@every_kind
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_prompt_survives_where_its_pasted_text_gives_it_again(vocabularies, kind, before, after):
    vocabulary = vocabularies[kind]
    trip = round_trip(vocabulary, before, after)
    prompts = [*random_prompts(vocabulary, 150, 2), *random_prompts(vocabulary, 50, 6)]
    around = [pasted(vocabulary, before), vocabulary.encode_after(after)]
    expected = [pasted(vocabulary, before + trip.text(ids) + after) == around[0] + ids + around[1] for ids in prompts]
    assert trip.survives(prompts) == expected
    assert trip.survives(prompts[::-1]) == expected[::-1]  # from memory
    assert any(expected)
    assert kind == "unigram" or not all(expected)


@every_kind
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_what_a_tokenizer_makes_of_a_text_survives(vocabularies, kind, before, after):
    vocabulary = vocabularies[kind]
    trip = round_trip(vocabulary, before, after)
    found = 0
    for text in (" one, two, three", " the crow said no", " Yes and no;"):
        whole = pasted(vocabulary, before + text + after)
        first, last = len(pasted(vocabulary, before)), len(whole) - len(vocabulary.encode_after(after))
        split_there = whole[:first] + whole[last:] == pasted(vocabulary, before) + vocabulary.encode_after(after)
        assert trip.survives([whole[first:last]]) == [split_there]
        found += split_there
    assert found > 0


@every_kind
def test_tokens_that_the_tokenizer_would_join_are_refused(vocabularies, kind):
    vocabulary = vocabularies[kind]
    whole, joined = next(
        (own, parts)
        for own in vocabulary.ordinary_ids
        if (data := vocabulary.token_bytes[own]) and len(data) > 2 and data.isalpha()
        for cut in range(1, len(data))
        if None not in (parts := [vocabulary.ids_by_bytes.get(data[:cut]), vocabulary.ids_by_bytes.get(data[cut:])])
    )
    trip = round_trip(vocabulary, "", "")
    assert trip.text([whole]).strip() == trip.text(joined).strip()
    assert trip.survives([joined]) == [False]


@pytest.mark.parametrize("kind", ["tiny", "byte_level", "llama2", "mistral", "gemma"])
def test_parts_of_characters_are_refused_and_whole_ones_are_not(vocabularies, kind):
    vocabulary = vocabularies[kind]
    trip = round_trip(vocabulary, "x", "")
    character = vocabulary.encode("x\u4e16")[len(vocabulary.encode("x")) :]  # spelled in bytes
    assert len(character) == 3
    assert trip.survives([character, character[:1], character[1:], character[:2], character * 2]) == [
        True, False, False, False, True,
    ]  # fmt: skip


def test_the_texts_around_decide(vocabularies):
    vocabulary = vocabularies["byte_level"]
    part, word = vocabulary.encode("g"), vocabulary.encode(" king")
    assert round_trip(vocabulary, "", "").survives([part, word]) == [True, True]
    assert round_trip(vocabulary, "The kin", "").survives([part, word]) == [False, True]
    assert round_trip(vocabulary, "", "n").survives([vocabulary.encode(" the")]) == [False]
    assert round_trip(vocabulary, "", " had").survives([word]) == [True]


@pytest.mark.parametrize("kind", ["llama2", "mistral", "unigram"])
def test_text_keeps_the_space_that_a_tokenizer_hides_at_the_start(vocabularies, kind):
    vocabulary = vocabularies[kind]
    alone, after = round_trip(vocabulary, "", ""), round_trip(vocabulary, "The king", "")
    ids = vocabulary.encode("The king said")[len(vocabulary.encode("The king")) :]
    assert after.text(ids) == " said"
    assert after.survives([ids]) == [True]
    assert alone.text(ids).strip() == "said"


def test_special_tokens_spelled_by_ordinary_ones_are_refused(vocabularies):
    vocabulary = vocabularies["tiny"]
    spelled = [i for letter in "<|endoftext|>" for i in vocabulary.encode(letter)]
    trip = round_trip(vocabulary, "", "")
    assert trip.text(spelled) == "<|endoftext|>"
    assert trip.survives([spelled]) == [False]
    assert trip.survives([vocabulary.special_ids]) == [True]  # where special tokens are allowed


def test_each_prompt_is_asked_about_once(vocabularies, monkeypatch):
    trip = round_trip(vocabularies["tiny"], "", "")
    asked = []
    read_again = RoundTrip.read_again
    monkeypatch.setattr(RoundTrip, "read_again", lambda self, ids, at=0: asked.extend(ids) or read_again(self, ids, at))
    prompts = random_prompts(vocabularies["tiny"], 8, 2)
    first = trip.survives(prompts + prompts[:3])
    assert first[:3] == first[8:]
    trip.survives(prompts[2:5])
    assert len(asked) == 8


def test_memory_is_bounded(vocabularies, monkeypatch):
    monkeypatch.setattr("lit_prompt.lm.round_trip._MOST_REMEMBERED", 10)
    fresh, bounded = round_trip(vocabularies["tiny"], "", ""), round_trip(vocabularies["tiny"], "", "")
    prompts = random_prompts(vocabularies["tiny"], 40, 2)
    assert list(itertools.chain(*(bounded.survives(prompts[i : i + 7]) for i in range(0, 40, 4)))) == list(
        itertools.chain(*(fresh.survives(prompts[i : i + 7]) for i in range(0, 40, 4)))
    )


@every_kind
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_repaired_prompts_are_what_their_text_gives(vocabularies, kind, before, after):
    vocabulary = vocabularies[kind]
    trip = round_trip(vocabulary, before, after)
    found = []
    for ids in random_prompts(vocabulary, 60, 8):
        own = pasted(vocabulary, before + trip.text(ids) + after)
        own = own[len(vocabulary.encode(before)) : len(own) - len(vocabulary.encode_after(after))]
        (repaired,) = trip.tokens([trip.text(ids)], 4)
        assert repaired == (own[-4:] if len(own) >= 4 else None)
        if repaired is not None:
            found.append(repaired)
    random = trip.survives(random_prompts(vocabulary, 60, 4, seed=1))
    assert kind == "unigram" or sum(trip.survives(found)) / len(found) > sum(random) / 60  # what it is for


def test_too_short_a_text_cannot_be_repaired(vocabularies):
    vocabulary = vocabularies["byte_level"]
    letters = [vocabulary.ids_by_bytes[bytes([letter])] for letter in b" once"]
    trip = round_trip(vocabulary, "", "")
    assert trip.tokens([trip.text(letters)], 1) == [vocabulary.encode(" once")]
    assert trip.tokens([trip.text(letters)], 2) == [None]
