"""Targets carried over to another LM's vocabulary, token by token, name by name and answer by answer."""

import copy
import json
import math

import pytest
import torch

from lit_prompt.data import Rejected, Target, TargetSet
from lit_prompt.data.carried import CarriedTargets
from lit_prompt.data.families import FromFile
from lit_prompt.lm import LMOptions, Vocabulary
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA


@pytest.fixture(scope="module")
def llama():
    return Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions())


@pytest.fixture(scope="module")
def gpt2():
    return Vocabulary.load(str(EMBEDDED_GPT2), LMOptions())


def sparse(vocabulary, probs, rest=0.0, **metadata):
    ids = torch.tensor([vocabulary.token_id(text) for text in probs])
    weights = torch.tensor([*probs.values()], dtype=torch.float64)
    return Target.from_weights("a/b", "a", ids, weights, vocabulary.size, rest, seed=3, **metadata)


def carried(target, source, to):
    (found,) = CarriedTargets(source, to)([target])
    return found


def by_text(target, vocabulary):
    """Probabilities by the texts of tokens, of those that have any."""
    p = target.dense(vocabulary.size).double().exp()
    return {vocabulary.text(i): float(p[i]) for i in p.nonzero().flatten().tolist()}


def test_names_keep_their_probabilities(llama, gpt2):
    target = sparse(llama, {" king": 0.5, " queen": 0.25, " the": 0.25})
    target.partner_of, target.before, target.after = "a/c", "Once", ""
    found = carried(target, llama, gpt2)
    assert by_text(found, gpt2) == pytest.approx({" king": 0.5, " queen": 0.25, " the": 0.25})
    assert (found.target_id, found.family, found.seed, found.partner_of) == ("a/b", "a", 3, "a/c")
    assert (found.before, found.after, found.metadata) == ("Once", "", {})
    assert found.entropy == pytest.approx(1.5 * math.log(2))


def split_in(vocabulary, other):
    """Words of one vocabulary that the other one splits, with their first pieces, one for each piece."""
    pieces = {}
    for i in vocabulary.ordinary_ids:
        text = vocabulary.text(i)
        if text[1:].isalpha() and len(ids := other.continuation_ids(text)) > 1:
            pieces.setdefault(ids[0], []).append(text)
    return pieces


def test_a_name_of_several_tokens_is_its_first_one_and_is_noted(llama, gpt2):
    (piece, (name, *_)), *_ = split_in(llama, gpt2).items()
    found = carried(sparse(llama, {name: 0.75, " the": 0.25}), llama, gpt2)
    assert by_text(found, gpt2) == pytest.approx({gpt2.text(piece): 0.75, " the": 0.25})
    assert found.metadata == {"first_tokens": {name: piece}, "note": f"first tokens stand for {name!r}"}


def test_strings_go_by_their_whole_text(llama, gpt2):
    (first, (word, *_)), *_ = split_in(gpt2, llama).items()
    weights, ids = torch.tensor([0.75, 0.25]), torch.tensor([first, llama.token_id(" the")])
    target = Target.from_weights("a/b", "a", ids, weights, llama.size)
    target.metadata = {"first_tokens": {word: first}}
    found = carried(target, llama, gpt2)
    assert by_text(found, gpt2) == pytest.approx({word: 0.75, " the": 0.25})


def test_names_that_share_their_first_token_are_no_target(llama, gpt2):
    piece, (one, other, *_) = next(item for item in split_in(llama, gpt2).items() if len(item[1]) > 1)
    found = carried(sparse(llama, {one: 0.5, other: 0.5}), llama, gpt2)
    assert isinstance(found, Rejected)
    for text in (one, other, gpt2.text(piece)):
        assert repr(text) in found.reason


def test_what_is_spread_stays_spread(llama, gpt2):
    found = carried(sparse(llama, {" king": 0.5, " the": 0.25}, rest=0.25), llama, gpt2)
    p = found.dense(gpt2.size).double().exp()
    assert p[gpt2.token_id(" king")] == pytest.approx(0.5)
    defined = sorted({*gpt2.defined_ids} - {gpt2.token_id(" king"), gpt2.token_id(" the")})
    assert p[defined].tolist() == pytest.approx([0.25 / len(defined)] * len(defined))
    assert not p[gpt2.undefined_ids].any()


@pytest.mark.parametrize(("lost", "is_carried"), [(0.005, True), (0.05, False)])
def test_a_dense_target_loses_little_or_is_no_target(lost, is_carried, llama, gpt2):
    lacking = next(i for i, data in enumerate(llama.token_bytes) if data and data not in gpt2.ids_by_bytes)
    p = torch.zeros(llama.size)
    p[lacking], p[llama.token_id(" king")], p[llama.token_id(" the")] = lost, 0.5, 0.5 - lost
    found = carried(Target.from_logits("a/b", "a", p.log()), llama, gpt2)
    assert isinstance(found, Target) == is_carried
    if is_carried:
        assert by_text(found, gpt2) == pytest.approx({" king": 0.5 / (1 - lost), " the": (0.5 - lost) / (1 - lost)})
        assert found.metadata["note"] == "0.5 % of its mass was lost"
    else:
        assert found.reason.startswith(f"5 % of its mass is on tokens that {EMBEDDED_GPT2} does not have")


def test_ids_stay_between_two_sizes_of_one_vocabulary(llama):
    larger = Vocabulary(llama.tokenizer, llama.size + 128)
    for target in (
        Target.from_logits("a/b", "a", torch.randn(llama.size, generator=torch.Generator().manual_seed(0))),
        sparse(llama, {"<|endoftext|>": 0.5, " the": 0.5}),
    ):
        found = carried(target, llama, larger).dense(larger.size)
        assert torch.allclose(found[: llama.size].exp(), target.dense(llama.size).exp(), atol=1e-7)
        assert not found[llama.size :].exp().any()


def test_stored_targets_are_what_was_written(tmp_path, llama):
    targets = [
        Target.from_logits("a/b", "a", torch.arange(float(llama.size)) / 1000, 5, note="x"),
        sparse(llama, {" king": 0.5, " the": 0.25}, rest=0.25),
    ]
    targets[1].target_id, targets[1].before = "a/c", "Once"
    stored = list(TargetSet.write(tmp_path / "set", targets, llama.size, llama.fingerprint).stored())
    for written, read in zip(targets, stored, strict=True):
        for name, value in vars(written).items():
            same = (
                torch.equal(value, vars(read)[name]) if isinstance(value, torch.Tensor) else value == vars(read)[name]
            )
            assert same, name


CHAT = [{"role": "user", "content": "{prompt}"}, {"role": "assistant", "content": "I am"}]


def from_file(tmp_path, vocabulary, **record):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    (target,) = FromFile(path).targets(vocabulary)
    return target


def with_template(vocabulary):
    tokenizer = copy.copy(vocabulary.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}{% endfor %}: "
    return Vocabulary(tokenizer, vocabulary.size, vocabulary.lm)


RECORDS = {
    "strings": {"strings": {" very satisfied": 0.5, " not at all": 0.5}, "context": {"after": "I am"}},
    "an end": {"strings": {" very": 0.25, " very satisfied": 0.75}, "end": True},
    "cells": {"cells": {"a": [" the king", " a queen"], "b": [" and"]}, "probs": {"a": 0.75, "b": 0.25}, "end": "."},
    "a chat": {"strings": {" very satisfied": 0.5, " not at all": 0.5}, "chat": CHAT},
}


@pytest.mark.parametrize("case", RECORDS)
def test_answers_are_those_of_the_file_read_for_the_other_lm(case, tmp_path, llama, gpt2):
    llama, gpt2 = with_template(llama), with_template(gpt2)
    facts = {"name": "b", "task": "t", "weight": 2.0, "split": "test"}
    target, expected = (from_file(tmp_path, each, **facts, **RECORDS[case]) for each in (llama, gpt2))
    found = carried(target, llama, gpt2)
    assert found.answers == expected.answers != target.answers
    for name in ("texts", "task", "weight", "held_out", "entropy", "target_id", "family", "metadata"):
        assert getattr(found, name) == getattr(expected, name), name
    assert torch.equal(found.dense(gpt2.size), expected.dense(gpt2.size))


def test_answers_that_the_other_lm_cannot_spell_are_no_target(tmp_path, llama, gpt2):
    found = carried(from_file(tmp_path, llama, strings={" 漢字": 0.5, " the": 0.5}), llama, gpt2)
    assert isinstance(found, Rejected)
    assert found.reason == f"{EMBEDDED_GPT2}: the answer ' 漢字' cannot be spelled by this LM's tokens"


def test_answers_of_which_one_begins_another_elsewhere_are_no_target(tmp_path, llama, gpt2):
    # alike for a tokenizer that reads its marker for the space as a space
    record = {"strings": {" the king": 0.5, "▁the king said": 0.5}}
    found = carried(from_file(tmp_path, llama, **record), llama, gpt2)
    assert isinstance(found, Rejected)
    assert f"begin those of '▁the king said' for {EMBEDDED_GPT2}" in found.reason


def test_a_chat_is_no_target_for_an_lm_without_a_template(tmp_path, llama, gpt2):
    target = from_file(tmp_path, with_template(llama), probs={" the": 1.0}, chat=CHAT)
    found = carried(target, llama, gpt2)
    assert isinstance(found, Rejected)
    assert "has no chat template" in found.reason


def test_tokens_keep_their_task(llama, gpt2):
    target = sparse(llama, {" king": 1.0})
    target.task, target.weight, target.held_out = "a/t", 3.0, True
    found = carried(target, llama, gpt2)
    assert (found.task, found.weight, found.held_out) == ("a/t", 3.0, True)
