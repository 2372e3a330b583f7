"""Sparse targets against dense ones and scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from lit_prompt.data.target import Target

VOCAB = 12
WEIGHT = st.one_of(st.just(0.0), st.floats(1e-300, 1e6), st.floats(1e-3, 1.0))


@st.composite
def weights(draw):
    """Distinct ids in any order, their weights, and the weight of the rest; not all zero."""
    ids = draw(st.lists(st.integers(0, VOCAB - 1), unique=True, max_size=VOCAB))
    listed = draw(st.lists(WEIGHT, min_size=len(ids), max_size=len(ids)))
    rest = draw(WEIGHT)
    if sum(listed) == 0.0 and (rest == 0.0 or len(ids) == VOCAB):
        listed, rest, ids = [1.0], 0.0, [3]
    return ids, listed, rest


def make(ids, listed, rest=0.0, vocab=VOCAB, dtype=torch.float64):
    return Target.from_weights("t", "f", torch.tensor(ids), torch.tensor(listed, dtype=dtype), vocab, rest, 7, k=1)


def reference(ids, listed, rest=0.0):
    """Probabilities in float64, by hand."""
    p = np.zeros(VOCAB)
    unlisted = [i for i in range(VOCAB) if i not in ids]
    p[unlisted] = rest / max(len(unlisted), 1)
    p[ids] = listed
    return p / p.sum()


@given(weights())
def test_probabilities_are_the_weights(case):
    dense = make(*case).dense(VOCAB)
    assert dense.dtype == torch.float32
    expected = reference(*case)
    np.testing.assert_allclose(dense.double().exp().numpy(), expected, rtol=1e-4, atol=1e-300)
    assert set(np.flatnonzero(dense.numpy() == -np.inf)) == set(np.flatnonzero(expected == 0.0))


@given(weights())
def test_the_entropy_is_scipys(case):
    target = make(*case)
    assert target.entropy == pytest.approx(scipy_entropy(target.dense(VOCAB).double().exp().numpy()), abs=1e-12)
    assert target.entropy == pytest.approx(scipy_entropy(reference(*case)), abs=1e-6)


@given(weights())
def test_sparse_equals_dense(case):
    with np.errstate(divide="ignore"):
        dense = Target.from_logits("t", "f", torch.from_numpy(np.log(reference(*case))))
    sparse = make(*case)
    torch.testing.assert_close(sparse.dense(VOCAB), dense.log_probs, rtol=2e-7, atol=1e-7)
    assert sparse.entropy == pytest.approx(dense.entropy, abs=1e-6)


@given(weights(), st.floats(1e-3, 1e3))
def test_the_scale_of_weights_does_not_matter(case, factor):
    ids, listed, rest = case
    scaled = make(ids, [w * factor for w in listed], rest * factor)
    torch.testing.assert_close(scaled.dense(VOCAB), make(*case).dense(VOCAB), rtol=2e-7, atol=1e-7)


def test_ids_are_listed_in_rising_order():
    target = make([5, 2, 9], [0.5, 0.2, 0.3])
    assert target.token_ids.dtype == torch.int64
    assert target.token_ids.tolist() == [2, 5, 9]
    assert target.log_probs.exp().tolist() == pytest.approx([0.2, 0.5, 0.3])
    assert (target.target_id, target.family, target.seed, target.metadata) == ("t", "f", 7, {"k": 1})


def test_a_weight_of_zero_is_not_listed():
    target = make([5, 2], [0.0, 2.0])
    assert target.token_ids.tolist() == [2]
    assert target.log_probs.tolist() == [0.0]
    assert target.entropy == 0.0
    assert target.rest_log_prob == -math.inf


def test_a_weight_of_zero_beside_a_rest_has_no_share_in_it():
    target = make([5, 2], [0.0, 1.0], rest=1.0)
    p = target.dense(VOCAB).exp()
    assert p[5] == 0.0
    assert p[0].item() == pytest.approx(0.5 / (VOCAB - 2))


def test_a_rest_alone_is_uniform():
    target = make([], [], rest=0.1)
    assert target.dense(VOCAB).exp().tolist() == pytest.approx([1 / VOCAB] * VOCAB)
    assert target.entropy == pytest.approx(math.log(VOCAB))


def test_no_token_is_left_for_a_rest():
    target = make(list(range(VOCAB)), [1.0] * VOCAB, rest=5.0)
    assert target.rest_log_prob == -math.inf
    assert target.dense(VOCAB).exp().tolist() == pytest.approx([1 / VOCAB] * VOCAB)


@pytest.mark.parametrize("vocab", [1000, 200_000])
def test_many_tokens_of_float32_weights_are_normalised_in_float64(vocab):
    listed = np.random.default_rng(0).random(vocab // 2, np.float32)
    target = make(list(range(vocab // 2)), listed, rest=3.0, vocab=vocab, dtype=torch.float32)
    assert target.dense(vocab).double().exp().sum().item() == pytest.approx(1.0, abs=2e-7)


ERRORS = {
    "a token twice": ([3, 1, 3], [1.0, 1.0, 1.0], 0.0),
    "an id below 0": ([-1], [1.0], 0.0),
    "an id too big": ([0, VOCAB], [1.0, 1.0], 0.0),
    "a negative weight": ([0, 1], [2.0, -1.0], 0.0),
    "a negative rest": ([0], [2.0], -1.0),
    "no weight": ([0, 1], [0.0, 0.0], 0.0),
    "no token": ([], [], 0.0),
    "an infinite weight": ([0], [math.inf], 0.0),
    "a weight that is no number": ([0, 1], [math.nan, 1.0], 0.0),
    "a rest that is no number": ([0, 1], [1.0, 1.0], math.nan),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_no_distribution_is_an_error(case):
    with pytest.raises(ValueError, match="t: "):
        make(*ERRORS[case])


def test_a_dense_target_is_dense():
    target = Target.from_logits("t", "f", torch.randn(VOCAB))
    assert torch.equal(target.dense(VOCAB), target.log_probs)
