"""The objective from moments against KL from the full logits."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from lit_prompt.functional import kl_from_moments

ITEMS, VOCAB, FEATURES = 4, 60, 7


def problem(with_bias, target, dtype=torch.float64, shape=(ITEMS,)):
    generator = torch.Generator().manual_seed(3)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    weight, features = normal(VOCAB, FEATURES), normal(*shape, FEATURES)
    bias = normal(VOCAB) if with_bias else torch.zeros(VOCAB, dtype=torch.float64)
    z = normal(*shape, VOCAB) * 2
    if target == "zeros":
        z[..., : VOCAB // 2] = -torch.inf
    elif target == "one_hot":
        z = torch.where(z == z.amax(-1, keepdim=True), 0.0, -torch.inf)
    p = z.softmax(-1)
    return tuple(x.to(dtype) for x in (weight, bias, features, p))


def objective(weight, bias, features, p):
    entropy = torch.from_numpy(np.asarray(scipy_entropy(p.double().numpy(), axis=-1))).to(p)
    return kl_from_moments(features @ weight.T + bias, features, p @ weight, p @ bias, entropy)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("target", ["dense", "zeros", "one_hot"])
@pytest.mark.parametrize("shape", [(ITEMS,), (2, 3)])
def test_equals_kl_from_full_logits(with_bias, target, shape):
    weight, bias, features, p = problem(with_bias, target, shape=shape)
    q = softmax((features @ weight.T + bias).numpy(), axis=-1)
    np.testing.assert_allclose(
        objective(weight, bias, features, p).numpy(), scipy_entropy(p.numpy(), q, axis=-1), rtol=1e-12, atol=1e-13
    )


def test_zero_where_the_target_is_what_the_lm_gives():
    weight, bias, features, _ = problem(True, "dense")
    p = (features @ weight.T + bias).softmax(-1)
    assert objective(weight, bias, features, p).abs().max() < 1e-13


def test_float32_is_close():
    weight, bias, features, p = problem(True, "dense", torch.float32)
    exact = objective(*(x.double() for x in (weight, bias, features, p)))
    value = objective(weight, bias, features, p)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("target", ["dense", "zeros", "one_hot"])
def test_gradient_is_the_difference_of_moments(with_bias, target):
    weight, bias, features, p = problem(with_bias, target)
    features.requires_grad_()
    objective(weight, bias, features, p).sum().backward()
    q = softmax((features.detach() @ weight.T + bias).numpy(), axis=-1)
    np.testing.assert_allclose(features.grad.numpy(), (q - p.numpy()) @ weight.numpy(), rtol=1e-12, atol=1e-13)


def test_an_item_does_not_see_the_others():
    weight, bias, features, p = problem(True, "dense")
    features.requires_grad_()
    objective(weight, bias, features, p)[1].backward()
    others = torch.arange(ITEMS) != 1
    assert (features.grad[others] == 0).all()
    assert (features.grad[1] != 0).all()
