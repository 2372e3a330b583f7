"""Divergences against scipy and numpy in float64."""

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy as scipy_entropy

from lit_prompt.functional import (
    entropy,
    js_divergence,
    kl_divergence,
    missed_mass,
    normalize_log_probs,
    reverse_kl_divergence,
    top_k_overlap,
    total_variation,
)

VOCAB = 37
INF = math.inf
# of values up to about 20 nats, relative to the format's 2^-24 and 2^-53
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 2e-6}, torch.float64: {"rtol": 1e-12, "atol": 1e-13}}


def reference_kl(p, q):
    return rel_entr(p, q).sum(-1)


def reference_reverse_kl(p, q):
    return scipy_entropy(q, p, axis=-1)


def reference_js(p, q):
    return jensenshannon(p, q, base=math.e, axis=-1) ** 2


def reference_tv(p, q):
    return np.abs(p - q).sum(-1) / 2


def reference_missed(p, q):
    with np.errstate(divide="ignore"):
        return -np.log(np.where(p > 0, q, 0.0).sum(-1))


FUNCTIONS = {
    "kl": (kl_divergence, reference_kl),
    "reverse_kl": (reverse_kl_divergence, reference_reverse_kl),
    "js": (js_divergence, reference_js),
    "missed": (missed_mass, reference_missed),
    "tv": (total_variation, reference_tv),
    "entropy_of_p": (lambda p, q: entropy(p), lambda p, q: scipy_entropy(p, axis=-1)),
    "entropy_of_q": (lambda p, q: entropy(q), lambda p, q: scipy_entropy(q, axis=-1)),
}


def logits(seed, scale=2.0, absent=()):
    z = torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    z[list(absent)] = -INF
    return z


def one_hot(token):
    z = torch.full((VOCAB,), -INF, dtype=torch.float64)
    z[token] = 0.0
    return z


FIRST, LAST = range(0, 12), range(20, VOCAB)
PAIRS = {
    "random": (logits(0), logits(1)),
    "equal": (logits(0), logits(0)),
    "peaked": (logits(0, scale=8.0), logits(1, scale=8.0)),
    "zeros_in_p": (logits(0, absent=FIRST), logits(1)),
    "zeros_in_q": (logits(0), logits(1, absent=FIRST)),
    "same_zeros": (logits(0, absent=FIRST), logits(1, absent=FIRST)),
    "more_zeros_in_p": (logits(0, absent=range(15)), logits(1, absent=FIRST)),
    "overlapping_zeros": (logits(0, absent=range(5, 25)), logits(1, absent=LAST)),
    "disjoint": (logits(0, absent=range(20)), logits(1, absent=LAST)),
    "one_hot_p": (one_hot(3), logits(1)),
    "one_hot_q": (logits(0), one_hot(3)),
    "one_hot_p_without_q": (one_hot(3), logits(1, absent=FIRST)),
    "same_one_hot": (one_hot(3), one_hot(3)),
    "other_one_hot": (one_hot(3), one_hot(4)),
    "uniform": (torch.zeros(VOCAB, dtype=torch.float64), logits(1)),
    "both_uniform": (torch.zeros(VOCAB, dtype=torch.float64), torch.full((VOCAB,), 7.0, dtype=torch.float64)),
    "unnormalised": (logits(0) + 300.0, logits(1) * 3 - 100.0),
    "normalised": (logits(0).log_softmax(-1), logits(1).log_softmax(-1)),
}


def probabilities(x):
    return softmax(x.double().numpy(), axis=-1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_reference(name, pair, dtype):
    function, reference = FUNCTIONS[name]
    log_p, log_q = (x.to(dtype) for x in PAIRS[pair])
    value = function(log_p, log_q)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.shape == ()
    expected = reference(probabilities(log_p), probabilities(log_q))
    np.testing.assert_allclose(value.numpy(), expected, **TOLERANCE[value.dtype])


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3, 2)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_leading_dimensions(name, shape):
    function, reference = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(5)
    log_p, log_q = (torch.randn(*shape, 11, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    value = function(log_p, log_q)
    assert value.shape == shape
    np.testing.assert_allclose(
        value.numpy(), reference(probabilities(log_p), probabilities(log_q)), **TOLERANCE[torch.float64]
    )


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "tv"])
def test_broadcasts(name):
    function, _ = FUNCTIONS[name]
    log_p, log_q = torch.stack([logits(0), logits(1)]), torch.stack([logits(i) for i in range(2, 5)])
    grid = function(log_p.unsqueeze(1), log_q)
    rows = [[function(p, q).item() for q in log_q] for p in log_p]
    torch.testing.assert_close(grid, torch.tensor(rows, dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_agrees_with_float64_over_a_large_vocabulary(name):
    function, _ = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = (torch.randn(3, 50_000, generator=generator) * 3 for _ in range(2))
    torch.testing.assert_close(
        function(log_p, log_q).double(), function(log_p.double(), log_q.double()), rtol=1e-5, atol=2e-6
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rounded_log_probabilities_are_normalised_again(name, dtype):
    function, reference = FUNCTIONS[name]
    log_p, log_q = (torch.randn(4096, generator=torch.Generator().manual_seed(s)).log_softmax(-1) for s in (0, 1))
    log_p, log_q = log_p.to(dtype), log_q.to(dtype)
    assert abs(log_p.double().exp().sum().item() - 1) > 1e-5  # what half precision has made of it
    np.testing.assert_allclose(
        function(log_p, log_q).numpy(),
        reference(probabilities(log_p), probabilities(log_q)),
        **TOLERANCE[torch.float32],
    )


@pytest.mark.parametrize("pair", ["zeros_in_q", "overlapping_zeros", "disjoint", "one_hot_q", "one_hot_p_without_q"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_kl_is_infinite_where_q_lacks_mass(pair, dtype):
    log_p, log_q = (x.to(dtype) for x in PAIRS[pair])
    assert kl_divergence(log_p, log_q).item() == INF
    assert reverse_kl_divergence(log_q, log_p).item() == INF


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_is_infinite_where_mass_too_small_for_its_format_meets_none(dtype):
    log_p = torch.tensor([-2000.0, 0.0], dtype=dtype)
    log_q = torch.tensor([-INF, 0.0], dtype=dtype)
    assert kl_divergence(log_p, log_q).item() == INF
    assert kl_divergence(log_q, log_p).item() == 0.0


@pytest.mark.parametrize("token", [0, 3, VOCAB - 1])
def test_kl_of_a_one_hot_target_is_minus_log_q(token):
    log_q = logits(1)
    expected = -log_softmax(log_q.numpy())[token]
    assert kl_divergence(one_hot(token), log_q).item() == pytest.approx(expected, rel=1e-14)


def test_torchmetrics_gives_nan_for_a_one_hot_target():
    log_p, log_q = one_hot(3).unsqueeze(0), logits(1).log_softmax(-1).unsqueeze(0)
    assert torchmetrics.functional.kl_divergence(log_p, log_q, log_prob=True).isnan()
    assert kl_divergence(log_p, log_q).item() == -log_q[0, 3].item()


@pytest.mark.parametrize("function", [kl_divergence, reverse_kl_divergence, js_divergence, total_variation])
@pytest.mark.parametrize("x", [logits(0), one_hot(3), logits(0, absent=FIRST)], ids=["dense", "one_hot", "zeros"])
def test_zero_for_equal_distributions(function, x):
    assert function(x, x).abs().item() <= 1e-15


def test_disjoint_distributions_are_as_far_as_can_be():
    log_p, log_q = PAIRS["disjoint"]
    assert js_divergence(log_p, log_q).item() == pytest.approx(math.log(2), rel=1e-14)
    assert total_variation(log_p, log_q).item() == pytest.approx(1.0, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_of_one_hot_is_plain_zero(dtype):
    value = entropy(one_hot(3).to(dtype)).item()
    assert value == 0.0
    assert math.copysign(1.0, value) == 1.0  # not printed as -0.00


@pytest.mark.parametrize("size", [1, 2, 50_257])
def test_entropy_of_uniform_is_log_of_size(size):
    assert entropy(torch.zeros(size)).item() == pytest.approx(math.log(size), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_normalize_log_probs(dtype):
    x = logits(0, absent=FIRST).to(dtype)
    log_p = normalize_log_probs(x)
    assert log_p.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(log_p.numpy(), log_softmax(x.double().numpy()), **TOLERANCE[log_p.dtype])
    assert (log_p[list(FIRST)] == -INF).all()


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_kl_is_q_minus_p(pair, dtype):
    log_p, log_q = (x.to(dtype) for x in PAIRS[pair])
    log_q = log_q.clone().requires_grad_()
    kl_divergence(log_p, log_q).backward()
    assert log_q.grad.isfinite().all()
    expected = probabilities(log_q.detach()) - probabilities(log_p)
    np.testing.assert_allclose(log_q.grad.numpy(), expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("function", [js_divergence, total_variation, lambda p, q: entropy(q)], ids=["js", "tv", "h"])
def test_gradient_of_the_bounded_ones_is_finite(function, pair):
    log_p, log_q = PAIRS[pair]
    log_q = log_q.clone().requires_grad_()
    function(log_p, log_q).backward()
    assert log_q.grad.isfinite().all()


def test_gradient_of_js_equals_finite_differences():
    log_p, log_q = logits(0, absent=FIRST), logits(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: js_divergence(log_p, q), (log_q,))


@pytest.mark.parametrize("k", [1, 3, 10, VOCAB, 100])
def test_top_k_overlap_equals_sets(k):
    log_p, log_q = torch.stack([logits(i) for i in range(5)]), torch.stack([logits(i) for i in range(5, 10)])
    k_used = min(k, VOCAB)
    tops = [[set(np.argsort(-row)[:k_used].tolist()) for row in x.numpy()] for x in (log_p, log_q)]
    expected = [len(p & q) / k_used for p, q in zip(*tops, strict=True)]
    assert top_k_overlap(log_p, log_q, k).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("rank", [0, 4, 5, 20])
def test_top_k_overlap_of_a_one_hot_target_is_whether_its_token_is_found(rank):
    log_q = logits(1)
    token = int(log_q.argsort(descending=True)[rank])
    assert top_k_overlap(one_hot(token), log_q, k=5).item() == (1.0 if rank < 5 else 0.0)


masked_logits = st.lists(
    st.one_of(st.floats(-50, 50), st.just(-INF)), min_size=8, max_size=8
).filter(lambda z: max(z) > -INF)  # fmt: skip
finite_logits = st.lists(st.floats(-50, 50), min_size=8, max_size=8)


@given(masked_logits, masked_logits)
@settings(max_examples=200, deadline=None)
def test_never_nan_and_within_bounds(p, q):
    log_p, log_q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    for x, y in ((log_p, log_q), (log_p.float(), log_q.float())):
        rounding = 1e-12 if x.dtype == torch.float64 else 1e-4
        assert kl_divergence(x, y) >= -rounding
        assert reverse_kl_divergence(x, y) >= -rounding
        assert -rounding <= js_divergence(x, y) <= math.log(2) + rounding
        assert 0 <= total_variation(x, y) <= 1 + rounding
        assert -rounding <= entropy(x) <= math.log(8) + rounding


@given(masked_logits, masked_logits)
@settings(max_examples=100, deadline=None)
def test_infinite_exactly_where_q_lacks_mass(p, q):
    log_p, log_q = torch.tensor(p), torch.tensor(q)
    lacks = bool(((log_p > -INF) & (log_q == -INF)).any())
    assert (kl_divergence(log_p, log_q).item() == INF) == lacks


@given(finite_logits, finite_logits, st.floats(-100, 100))
@settings(max_examples=100, deadline=None)
def test_a_constant_added_to_logits_changes_nothing(p, q, shift):
    log_p, log_q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    torch.testing.assert_close(
        kl_divergence(log_p + shift, log_q - shift), kl_divergence(log_p, log_q), rtol=1e-11, atol=1e-12
    )


@given(finite_logits, finite_logits)
@settings(max_examples=100, deadline=None)
def test_known_inequalities(p, q):
    log_p, log_q = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    kl, js, tv = (f(log_p, log_q).item() for f in (kl_divergence, js_divergence, total_variation))
    assert kl >= 2 * tv**2 - 1e-12  # Pinsker
    assert js <= math.log(2) * tv + 1e-12  # Lin
    assert js == pytest.approx(js_divergence(log_q, log_p).item(), rel=1e-10, abs=1e-13)
    assert tv == pytest.approx(total_variation(log_q, log_p).item(), rel=1e-12)


@pytest.mark.parametrize("pair", ["random", "zeros_in_p", "zeros_in_q", "more_zeros_in_p", "one_hot_p", "uniform"])
def test_kl_is_what_is_missed_and_how_unevenly_the_rest_is_shared(pair):
    log_p, log_q = PAIRS[pair]
    shared = log_q.masked_fill(log_p == -INF, -INF)  # normalised by what takes it
    torch.testing.assert_close(kl_divergence(log_p, log_q), missed_mass(log_p, log_q) + kl_divergence(log_p, shared))
