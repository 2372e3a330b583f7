"""The copy of an LM in half precision."""

import pytest
import torch
import transformers

from lit_prompt.lm import FrozenLM, LMOptions, half_copy, load_causal_lm
from tests.conftest import ARCHITECTURES
from tests.lm.test_frozen import frozen, token_ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_lm_but_for_rounding(make_lm, architecture):
    lm = frozen(make_lm(architecture))
    half = half_copy(lm, positions_at_once=None)
    assert half.dtype == torch.bfloat16
    assert lm.dtype == torch.float32
    ids = token_ids()
    with torch.no_grad():
        exact, rough = (each.next_token_logits(each.embed(ids)).log_softmax(-1) for each in (lm, half))
    kl = (exact.exp() * (exact - rough)).sum(-1)
    assert 0 < kl.max() < 0.01


def test_the_head_is_shared(make_lm):
    lm = frozen(make_lm("llama"))
    half = half_copy(lm, positions_at_once=None)
    assert half.head()[0].data_ptr() == lm.head()[0].data_ptr()
    assert half.head()[0].dtype == torch.float32


def test_its_head_is_as_precise_at_any_temperature(make_lm):
    lm = frozen(make_lm("llama"))
    half = half_copy(lm, positions_at_once=None)
    weight, bias = half.tempered(0.5).head()
    assert bias is None
    torch.testing.assert_close(weight, lm.tempered(0.5).head()[0], rtol=1e-6, atol=0)


def test_an_item_does_not_depend_on_the_others_where_shapes_are_fixed(make_lm):
    half = half_copy(frozen(make_lm("llama")), positions_at_once=512)
    ids = token_ids(items=60, length=20)
    most = half.most_items(20)
    with torch.no_grad():
        whole = torch.cat([half.features(half.embed(part)) for part in ids.split(most)])
        few = half.features(half.embed(ids[33:36]))
    assert few.equal(whole[33:36])


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_there_is_none_of_an_lm_of_another_dtype(make_lm, dtype):
    lm = FrozenLM(load_causal_lm(str(make_lm("llama")), LMOptions(dtype=dtype)))
    assert half_copy(lm, positions_at_once=None) is None


def test_there_is_none_of_an_lm_that_does_not_compute_in_half_precision():
    config = transformers.OpenAIGPTConfig(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    assert half_copy(FrozenLM(transformers.OpenAIGPTLMHeadModel(config)), positions_at_once=None) is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_there_is_none_where_it_does_not_fit(make_lm, monkeypatch, error):
    def full(*args):
        raise error

    lm = frozen(make_lm("llama"))
    monkeypatch.setattr(FrozenLM, "rounded", full)
    assert half_copy(lm, positions_at_once=None) is None


def test_the_lm_itself_stays_as_it_is(make_lm):
    lm = frozen(make_lm("llama"))
    ids = token_ids()
    with torch.no_grad():
        before = lm.next_token_logits(lm.embed(ids))
        half = half_copy(lm, positions_at_once=512)
        half.next_token_logits(half.embed(ids))
        assert lm.next_token_logits(lm.embed(ids)).equal(before)
    assert (lm.dtype, lm.most_items(4), half.most_items(4)) == (torch.float32, None, 128)
