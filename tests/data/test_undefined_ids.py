"""Ids of logits that stand for no token: no target has mass there, whatever its family."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lit_prompt.data import Target
from lit_prompt.data.contexts import ContextCut
from lit_prompt.data.families import (
    Dirichlet,
    EntropyMatched,
    FromFile,
    FromLM,
    OneHot,
    Outlier,
    Temperature,
    UniformSubset,
)
from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMCache, LMOptions, Vocabulary, sample_prompts
from tests.conftest import EMBEDDED_GPT2

TOKENS, LOGITS = 320, 400
LN_V = math.log(TOKENS)


@pytest.fixture(scope="module")
def padded_lm(tiny_lm, tmp_path_factory):
    """A tiny Llama with more logits than its tokenizer has tokens, the others as likely as those."""
    folder = tmp_path_factory.mktemp("lms") / "padded"
    shutil.copytree(tiny_lm, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_lm)
    torch.manual_seed(0)
    model.resize_token_embeddings(LOGITS, mean_resizing=False)
    for weights in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        weights.data[TOKENS:] = weights.data[: LOGITS - TOKENS]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vocabulary(padded_lm):
    return Vocabulary.load(str(padded_lm), LMOptions())


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("Once upon a time there was a little house.\n\nThe king had three sons and one crow.")
    return TextSource(str(path))


@pytest.fixture(scope="module")
def dice(tmp_path_factory):
    path = tmp_path_factory.mktemp("dice") / "dice.jsonl"
    path.write_text(json.dumps({"name": "half", "ids": [70, 3], "probs": [0.25, 0.25]}))
    return path


GRID = [0.5, 3.0, LN_V - 0.05]
FAMILIES = {
    "entropy_matched": lambda *_: EntropyMatched(GRID, 2),
    "temperature": lambda *_: Temperature(GRID, 2),
    "outlier": lambda *_: Outlier([1.0, 3.0], 2),
    "dirichlet": lambda *_: Dirichlet((0.01, 1.0), 2),
    "uniform": lambda *_: UniformSubset((2, TOKENS - 1), 2),
    "one_hot": lambda *_: OneHot(count=8),
    "own_lm": lambda texts, _: FromLM(contexts=texts, cut=ContextCut(2, 4), count=2),
    "own_lm_top_k": lambda texts, _: FromLM(contexts=texts, cut=ContextCut(2, 4), count=2, top_k=TOKENS),
    "own_texts": lambda *_: FromLM(cut=ContextCut(1, 3), count=2),
    "other_lm": lambda texts, _: FromLM(
        str(EMBEDDED_GPT2), contexts=texts, cut=ContextCut(2, 4), count=2, vocabulary_map="first_piece"
    ),
    "file": lambda _, dice: FromFile(dice, "spread"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_target_has_mass_on_an_id_without_a_token(name, vocabulary, texts, dice):
    made = [item for item in FAMILIES[name](texts, dice).targets(vocabulary) if isinstance(item, Target)]
    assert len(made) > 0
    for target in made:
        log_p = target.dense(LOGITS).double()
        assert bool((log_p[TOKENS:] == -math.inf).all()), target.target_id
        p = log_p.exp().numpy()
        assert p.sum() == pytest.approx(1, abs=1e-5)
        assert target.entropy == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum(), abs=1e-5)
        assert target.entropy <= LN_V + 1e-6
        if "wanted_entropy" in target.metadata:
            assert target.entropy == pytest.approx(target.metadata["wanted_entropy"], abs=1.1e-3)


def test_outlier_tokens_hold_the_mass_that_is_told(vocabulary):
    """Where ids without a token lie between the others, too."""
    tokenizer = vocabulary.tokenizer
    gaps = Vocabulary(tokenizer, LOGITS)
    gaps.__dict__["defined_ids"] = [i for i in range(TOKENS) if i % 7]
    gaps.__dict__["undefined_ids"] = sorted(set(range(LOGITS)) - set(gaps.defined_ids))
    made = [item for item in Outlier([2.0], 3).targets(gaps) if isinstance(item, Target)]
    for target in made:
        p = target.dense(LOGITS).double().exp()
        assert not p[gaps.undefined_ids].any()
        if target.partner_of is None:
            outliers = target.metadata["outlier_ids"]
            assert float(p[outliers].sum()) == pytest.approx(target.metadata["outlier_mass"], abs=1e-5)
            assert all(i % 7 for i in outliers)


def test_what_is_spread_goes_to_tokens_alone(vocabulary, dice):
    (target,) = FromFile(dice, "spread").targets(vocabulary)
    expected = np.where(np.arange(LOGITS) < TOKENS, 0.5 / (TOKENS - 2), 0.0)
    expected[[3, 70]] = 0.25
    np.testing.assert_allclose(target.dense(LOGITS).double().exp().numpy(), expected, rtol=1e-5, atol=0)


def test_own_mass_that_lies_on_no_token_is_lost_and_told(vocabulary, texts):
    (target, *_) = FromLM(contexts=texts, cut=ContextCut(2, 4), count=1, partners=False).targets(vocabulary)
    assert 0.01 < target.metadata["mass_lost"] < 0.5


def test_entropies_reach_to_that_of_all_tokens(vocabulary):
    entropies = [target.entropy for target in EntropyMatched(3, 1).targets(vocabulary)]
    assert max(entropies) == pytest.approx(LN_V - 0.1, abs=1.1e-3)
    with pytest.raises(InputError, match=rf"outside \[0, ln\|V\|\] = \[0, {LN_V:.4f}\] nats for \|V\| = {TOKENS}"):
        list(EntropyMatched([LN_V + 0.01]).targets(vocabulary))


def test_ids_that_a_user_gives_are_checked(vocabulary, tmp_path):
    said = rf"token id 350 stands for no token: the LM has {LOGITS} logits, its tokenizer {TOKENS} tokens"
    with pytest.raises(InputError, match=said):
        list(OneHot(tokens=[350]).targets(vocabulary))
    path = tmp_path / "x.jsonl"
    path.write_text('{"ids": [1, 350], "probs": [0.5, 0.5]}')
    with pytest.raises(InputError, match=rf"x\.jsonl:1: {said}"):
        list(FromFile(path).targets(vocabulary))


def test_sampled_texts_hold_tokens_alone(padded_lm, vocabulary):
    lm = FrozenLM.load(str(padded_lm), LMOptions())
    assert int(sample_prompts(lm, vocabulary, 64, 8, seed=0, cache=LMCache(lm)).max()) < TOKENS
