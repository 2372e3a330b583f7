"""What is sampled from, against the logits processors of transformers."""

import itertools
import math

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lit_prompt.errors import InputError
from lit_prompt.functional import sampled_log_probs
from lit_prompt.lm import Sampling

TEMPERATURES, TOP_KS, TOP_PS = (1.0, 0.3, 2.5), (None, 1, 5, 1000), (None, 1.0, 0.9, 0.3, 1e-6)


def logits(*shape, scale=3.0, dtype=torch.float32):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale).to(dtype)


def processed(scores, temperature, top_k, top_p):
    """As ``generate`` puts its processors together."""
    processors = LogitsProcessorList()
    if temperature != 1.0:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k is not None:
        processors.append(TopKLogitsWarper(top_k=top_k))
    if top_p is not None and top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p=top_p))
    return processors(None, scores).log_softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("temperature", "top_k", "top_p"), itertools.product(TEMPERATURES, TOP_KS, TOP_PS))
def test_equals_the_processors_of_transformers(temperature, top_k, top_p, dtype):
    scores = logits(4, 200, dtype=dtype)
    scores[1, :150] = -math.inf
    scores[2] = scores[2].round()  # ties
    found = sampled_log_probs(scores, temperature, top_k, top_p)
    expected = processed(scores, temperature, top_k, top_p)
    assert found.dtype == dtype
    assert ((found == -math.inf) == (expected == -math.inf)).all()
    torch.testing.assert_close(found, expected)
    assert torch.equal(Sampling(temperature, top_k, top_p)(scores), found)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7), (0, 7)])
def test_leading_dimensions(shape):
    scores = logits(*shape)
    found = sampled_log_probs(scores, 0.7, 5, 0.8)
    assert found.shape == shape
    for row, expected in zip(found.reshape(-1, 7), scores.reshape(-1, 7), strict=True):
        torch.testing.assert_close(row, sampled_log_probs(expected, 0.7, 5, 0.8))


def test_half_precision_is_raised():
    assert sampled_log_probs(logits(3, 50, dtype=torch.bfloat16), 0.5, 10, 0.9).dtype == torch.float32


@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e4])
@pytest.mark.parametrize("settings", [(1.0, None, None), (1e-3, None, None), (0.5, 3, None), (1.0, None, 0.9)])
def test_probabilities_sum_to_one_and_the_likeliest_token_stays(settings, scale):
    scores = logits(5, 300, scale=scale, dtype=torch.float64)
    found = sampled_log_probs(scores, *settings)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(found.argmax(-1), scores.argmax(-1))


def test_a_temperature_has_a_gradient():
    scores = logits(6, dtype=torch.float64).requires_grad_()
    weights = logits(6, dtype=torch.float64).flip(0)
    assert torch.autograd.gradcheck(lambda z: (sampled_log_probs(z, 0.4).exp() * weights).sum(), (scores,))


@pytest.mark.parametrize("settings", [(0.6, 4, None), (0.6, None, 0.7), (1.0, 5, 0.9)])
def test_where_tokens_are_cut_gradients_are_finite(settings):
    scores = logits(3, 9).requires_grad_()
    found = sampled_log_probs(scores, *settings)
    torch.where(found > -math.inf, found, 0.0).sum().backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.0), ("temperature", -1.0), ("temperature", math.nan), ("temperature", math.inf),
        ("top_k", 0), ("top_k", -3), ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_named(key, value):
    with pytest.raises(InputError, match=rf"^sampling\.{key} is .*; give "):
        Sampling(**{key: value})


@pytest.mark.parametrize(
    ("settings", "plain"),
    [({}, True), ({"top_p": 1.0}, True), ({"temperature": 0.5}, False), ({"top_k": 5}, False), ({"top_p": 0.5}, False)],
)
def test_says_whether_it_changes_anything(settings, plain):
    assert Sampling(**settings).is_plain == plain
