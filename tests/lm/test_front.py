"""What stands in front of a text, against the tokenizer's own way with texts."""

import shutil

import pytest
import torch
from transformers import AutoTokenizer

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMCache, LMOptions, Vocabulary, sample_prompts
from lit_prompt.lm.sample import sample_text
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA, FRONTS
from tests.places import round_trip

every_front = pytest.mark.parametrize("front", FRONTS)
TEXTS = ["The king had three sons", " and", "", "Yes,  said\nthe fox ", "<s>The king", "</s>", "déjà"]


def load(folder, bos="auto"):
    return Vocabulary.load(str(folder), LMOptions(bos=bos))


def pasted(folder, text):
    """Ids that the tokenizer gives a text, an EOS that it appends left out."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    return ids[:-1] if tokenizer("")["input_ids"][-1:] == [tokenizer.eos_token_id] else ids


@every_front
def test_a_text_is_begun_as_its_tokenizer_does(make_lm_with_front, front):
    folder = make_lm_with_front(front)
    vocabulary = load(folder)
    assert [vocabulary.encode_start(text) for text in TEXTS] == [pasted(folder, text) for text in TEXTS]
    assert vocabulary.encode_starts(TEXTS) == [pasted(folder, text) for text in TEXTS]
    assert vocabulary.front == ("" if front == "none" else "<s>")


@every_front
def test_always_and_never_overrule_the_tokenizer(make_lm_with_front, front):
    folder = make_lm_with_front(front)
    bos = AutoTokenizer.from_pretrained(folder).bos_token_id
    for text in TEXTS:
        plain = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
        assert load(folder, "always").encode_start(text) == [bos, *plain]
        assert load(folder, "never").encode_start(text) == plain


@pytest.mark.parametrize("lm", [EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_nothing_stands_in_front_where_the_tokenizer_adds_nothing(lm):
    vocabulary = load(lm)
    assert vocabulary.encode_start("The king") == vocabulary.encode("The king")
    assert vocabulary.empty_text_ids == [vocabulary.tokenizer.bos_token_id]


def test_what_stands_in_for_an_empty_text(make_lm_with_front):
    vocabulary = load(make_lm_with_front("bos_eos"))
    assert vocabulary.empty_text_ids == vocabulary.front_ids == [1]
    assert load(make_lm_with_front("bos"), "never").empty_text_ids == [1]
    without = load(make_lm_with_front("none"))
    without.tokenizer.bos_token = None
    assert without.empty_text_ids == [0]  # EOS
    neither = load(make_lm_with_front("none"))
    neither.tokenizer.bos_token = neither.tokenizer.eos_token = None
    assert neither.empty_text_ids == []


def test_always_needs_a_bos(make_lm_with_front, tmp_path):
    folder = make_lm_with_front("none")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = None
    tokenizer.save_pretrained(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"^lm_options\.bos is always, but .* has no BOS; set it to auto or never$"):
        load(tmp_path, "always")
    assert load(tmp_path).front_ids == load(tmp_path, "never").front_ids == []


def test_a_text_that_spells_what_stands_in_front(make_lm_with_front):
    vocabulary = load(make_lm_with_front("bos"))
    texts = ["<s>The king", "\n <s>", "The <s>king", "</s>", ""]
    assert [vocabulary.repeats_front(text) for text in texts] == [True, True, False, False, False]
    assert not any(load(make_lm_with_front("none")).repeats_front(text) for text in texts)
    assert not any(load(make_lm_with_front("bos"), "never").repeats_front(text) for text in texts)


@every_front
def test_a_prompt_survives_where_the_whole_pasted_text_gives_it_again(make_lm_with_front, front):
    folder = make_lm_with_front(front)
    vocabulary = load(folder)
    ids = torch.tensor(vocabulary.ordinary_ids)
    prompts = ids[torch.randint(len(ids), (60, 3), generator=torch.Generator().manual_seed(0))].tolist()
    for before, after in (("", ""), ("The king", " and")):
        trip = round_trip(vocabulary, before, after)
        again = [pasted(folder, before + trip.text(own) + after) for own in prompts]
        assert trip.read_again(prompts) == again
        start, end = pasted(folder, before), vocabulary.encode_after(after)
        expected = [ids == start + own + end for ids, own in zip(again, prompts, strict=True)]
        assert trip.survives(prompts) == expected
        assert True in expected


@every_front
def test_sampled_texts_begin_after_what_stands_in_front(make_lm_with_front, front, monkeypatch):
    folder = make_lm_with_front(front)
    lm, vocabulary = FrozenLM.load(str(folder), LMOptions()), load(folder)
    generate, starts = lm.model.generate, []
    monkeypatch.setattr(lm.model, "generate", lambda ids, **rest: starts.append(ids) or generate(ids, **rest))
    drawn = sample_prompts(lm, vocabulary, 3, 5, seed=0, cache=LMCache(lm))
    assert drawn.shape == (3, 5)
    text = sample_text(lm.model, vocabulary, 5, seed=0)
    assert "<s>" not in text
    assert [ids.tolist() for ids in starts] == [[[1]] * 3, [[1]]]  # BOS, also where the tokenizer adds nothing
    assert sample_prompts(lm, vocabulary, 1, lm.max_length, seed=0, cache=LMCache(lm)) is None
    assert sample_prompts(lm, vocabulary, 1, lm.max_length - 1, seed=0, cache=LMCache(lm)) is not None
