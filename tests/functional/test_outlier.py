"""The largest mass that k tokens can hold, and descents that reach it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from lit_prompt.functional import descend_to_outliers, max_outlier_mass, outlier

SMALL = [(3, 1), (3, 2), (4, 1), (4, 2), (5, 3), (6, 2), (6, 5)]


def largest_mass(h, k, vocab):
    return max_outlier_mass(torch.tensor(h, dtype=torch.float64), k, vocab).item()


def random_case(vocab, k, entropies, seed=0):
    """Logits, entropies and outlier tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(entropies), vocab, generator=generator)
    ids = torch.stack([torch.randperm(vocab, generator=generator)[:k] for _ in entropies])
    return logits, torch.as_tensor(entropies, dtype=torch.float64), ids


def measured(logits, ids):
    """Entropy in nats and outlier mass of each row, by scipy."""
    p = softmax(logits.double().numpy(), axis=-1)
    return scipy_entropy(p, axis=-1), np.take_along_axis(p, ids.numpy(), -1).sum(-1)


# ---- the largest mass ----


@pytest.mark.parametrize(("vocab", "k"), SMALL)
def test_no_random_distribution_holds_more(vocab, k):
    rng = np.random.default_rng(vocab * 10 + k)
    concentrations = 10.0 ** rng.uniform(-2, 2, (40_000, 1)) * rng.choice([1.0, 20.0], (40_000, vocab))
    draws = rng.standard_gamma(concentrations) + 1e-300
    p = draws / draws.sum(-1, keepdims=True)
    largest = max_outlier_mass(torch.from_numpy(np.minimum(scipy_entropy(p, axis=-1), math.log(vocab))), k, vocab)
    slack = largest.numpy() - p[:, :k].sum(-1)
    assert slack.min() > -1e-9
    assert slack.min() < 1e-2  # the bound is met


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("h", [0.05, 0.3, 0.6, 0.75, 0.95, 1.08])
def test_a_grid_of_three_tokens_has_the_same_maximum(k, h):
    step = 1 / 1000
    x, y = np.meshgrid(np.arange(0, 1 + step / 2, step), np.arange(0, 1 + step / 2, step))
    p = np.stack([x, y, 1 - x - y], -1).reshape(-1, 3)
    p = p[p[:, 2] >= -1e-12].clip(0)
    near = np.abs(scipy_entropy(p, axis=-1) - h) < 2e-3
    assert p[near][:, :k].sum(-1).max() == pytest.approx(largest_mass(h, k, 3), abs=0.02 if h > 1 else 5e-3)


@pytest.mark.parametrize(("vocab", "k"), SMALL)
@pytest.mark.parametrize("share", [0.1, 0.45, 0.8, 0.97])
def test_an_optimiser_finds_the_same_maximum(vocab, k, share):
    h = share * math.log(vocab)
    rng = np.random.default_rng(0)
    best = 0.0
    for _ in range(20):
        found = minimize(
            lambda p: -p[:k].sum(),
            rng.dirichlet(np.ones(vocab)),
            jac=lambda p: -(np.arange(vocab) < k).astype(float),
            bounds=[(1e-9, 1.0)] * vocab,
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1},
                {"type": "eq", "fun": lambda p: -(p * np.log(p)).sum() - h},
            ],
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-10},
        )
        p = found.x / found.x.sum()
        if abs(scipy_entropy(p) - h) < 1e-6:
            best = max(best, p[:k].sum())
    assert best == pytest.approx(largest_mass(h, k, vocab), abs=1e-5)


@pytest.mark.parametrize(("vocab", "k"), [*SMALL, (50, 7), (4096, 1), (4096, 100), (128_000, 5)])
def test_uniform_on_the_outliers_and_uniform_on_the_rest_has_that_entropy(vocab, k):
    wanted = torch.linspace(math.log(k) + 1e-6, math.log(vocab) - 1e-6, 9, dtype=torch.float64)
    for h, m in zip(wanted.tolist(), max_outlier_mass(wanted, k, vocab).tolist(), strict=True):
        p = np.full(vocab, (1 - m) / (vocab - k))
        p[:k] = m / k
        assert scipy_entropy(p) == pytest.approx(h, abs=1e-9)
        by_scipy = brentq(
            lambda x: scipy_entropy([x, 1 - x]) + x * math.log(k) + (1 - x) * math.log(vocab - k) - h,  # noqa: B023
            k / vocab,
            1.0,
            xtol=1e-14,
        )
        assert m == pytest.approx(by_scipy, abs=1e-7)


@pytest.mark.parametrize(("vocab", "k"), [*SMALL, (2, 1), (4096, 5)])
def test_the_ends_of_the_range(vocab, k):
    assert largest_mass(0.0, k, vocab) == 1.0
    assert largest_mass(0.5 * math.log(k), k, vocab) == 1.0
    assert largest_mass(math.log(k), k, vocab) == 1.0
    assert largest_mass(math.log(vocab), k, vocab) == pytest.approx(k / vocab, abs=1e-6)
    assert largest_mass(math.log(vocab) + 1e-6, k, vocab) == pytest.approx(k / vocab, abs=1e-6)  # float32's rounding


def test_more_entropy_leaves_less_mass_and_more_tokens_hold_more():
    h = torch.linspace(0, math.log(50), 200, dtype=torch.float64)
    masses = torch.stack([max_outlier_mass(h, k, 50) for k in range(1, 50)])
    assert (masses.diff(dim=1) <= 0).all()
    assert (masses.diff(dim=0) >= 0).all()


def test_shape_and_dtype():
    for dtype in (torch.float32, torch.float64):
        m = max_outlier_mass(torch.ones(2, 3, dtype=dtype), 1, 10)
        assert (m.shape, m.dtype) == ((2, 3), torch.float64)


@pytest.mark.parametrize(("h", "k", "vocab"), [(1.0, 0, 5), (1.0, 5, 5), (1.0, 6, 5), (0.0, 1, 1)])
def test_a_number_of_outliers_that_leaves_no_choice_is_refused(h, k, vocab):
    with pytest.raises(ValueError, match="outlier tokens are not among"):
        largest_mass(h, k, vocab)


@pytest.mark.parametrize("h", [-0.01, math.log(5) + 0.01, math.nan, math.inf])
def test_an_impossible_entropy_is_refused(h):
    with pytest.raises(ValueError, match="entropies are not all in"):
        largest_mass(h, 2, 5)


# ---- descents ----


def check(result, wanted, ids, delta=0.05):
    h, mass = measured(result.logits, ids)
    np.testing.assert_allclose(result.entropy.numpy(), h, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.mass.numpy(), mass, rtol=0, atol=1e-9)
    largest = max_outlier_mass(wanted, ids.shape[1], result.logits.shape[1])
    assert torch.equal(result.max_mass, largest)
    good = (np.abs(h - wanted.numpy()) <= 1e-3) & (mass >= largest.numpy() - delta)
    assert result.accepted.tolist() == good.tolist()
    return good


@pytest.mark.parametrize(("vocab", "k"), [(50, 1), (50, 20), (320, 5), (320, 100), (4096, 1), (4096, 5), (4096, 100)])
def test_descents_are_accepted_over_the_whole_range(vocab, k):
    logits, wanted, ids = random_case(vocab, k, torch.linspace(0.05, math.log(vocab) - 0.05, 15, dtype=torch.float64))
    result = descend_to_outliers(logits, wanted, ids)
    assert check(result, wanted, ids).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_vocabulary_number_of_outliers_and_entropy(data):
    vocab = data.draw(st.integers(3, 200), "vocab")
    k = data.draw(st.integers(1, min(vocab - 1, 100)), "k")
    h = data.draw(st.floats(0.05, math.log(vocab) - 0.05), "h")
    delta = data.draw(st.sampled_from([0.05, 0.01]), "delta")
    logits, wanted, ids = random_case(vocab, k, [h], seed=data.draw(st.integers(0, 2**32), "seed"))
    assert check(descend_to_outliers(logits, wanted, ids, delta=delta), wanted, ids, delta).all()


def test_outliers_hold_nearly_all_they_can_where_that_is_less_than_delta():
    logits, wanted, ids = random_case(4096, 5, [math.log(4096) - 0.05] * 4)
    result = descend_to_outliers(logits, wanted, ids)
    assert (result.max_mass < 0.05).all()
    assert (result.mass > 0.9 * result.max_mass).all()


def test_the_other_tokens_stay_random():
    logits, wanted, ids = random_case(320, 5, [3.0, 3.0])
    p = descend_to_outliers(logits, wanted, ids[:1].repeat(2, 1)).logits.double().softmax(-1)
    others = torch.ones(320, dtype=torch.bool)
    others[ids[0]] = False
    p = p[:, others] / p[:, others].sum(-1, keepdim=True)
    assert (p[0] - p[1]).abs().sum() > 0.1
    assert p.max() > 2 / 315


def test_without_the_mass_in_the_loss_there_are_no_outliers():
    logits, wanted, ids = random_case(320, 5, [2.0, 3.0])
    result = descend_to_outliers(logits, wanted, ids, b=1e-9)
    assert not check(result, wanted, ids).any()
    assert (result.mass < 0.3 * result.max_mass).all()


@pytest.mark.parametrize("vocab", [3, 17, 50, 4096])
def test_a_row_does_not_depend_on_its_company(vocab):
    logits, wanted, ids = random_case(vocab, 2, torch.linspace(0.05, 0.97, 6) * math.log(vocab))
    together = descend_to_outliers(logits, wanted, ids).logits
    for rows in [[0], [5], [1, 0], [2, 0, 1], [0, 0, 0, 2], [3, 4, 5]]:
        assert torch.equal(descend_to_outliers(logits[rows], wanted[rows], ids[rows]).logits, together[rows]), rows


def test_a_long_row_does_not_depend_on_its_company(monkeypatch):
    monkeypatch.setattr(outlier, "_STEPS", 6)
    logits, wanted, ids = random_case(33_000, 5, [9.0, 9.5, 9.0])
    logits[0] /= 10
    logits[0, ids[0]] += 9.0
    wanted[0] = measured(logits[:1], ids[:1])[0][0] + 0.01  # done at once: the others go on without it
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # torch would split the sum of a lone row of this length between threads
    try:
        together = descend_to_outliers(logits, wanted, ids)
        assert together.accepted.tolist() == [True, False, False]
        for rows in [[0], [1], [2], [0, 2]]:
            result = descend_to_outliers(logits[rows], wanted[rows], ids[rows])
            assert torch.equal(result.logits, together.logits[rows]), rows
    finally:
        torch.set_num_threads(threads)


def test_the_inputs_are_not_modified():
    inputs = random_case(50, 3, [0.5, 2.0, 3.0])
    before = [x.clone() for x in inputs]
    result = descend_to_outliers(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert result.logits.dtype == torch.float32
    assert not result.logits.requires_grad


def test_too_few_steps_are_not_accepted(monkeypatch):
    monkeypatch.setattr(outlier, "_STEPS", 5)
    logits, wanted, ids = random_case(320, 5, torch.linspace(0.5, 4.5, 6))
    assert not check(descend_to_outliers(logits, wanted, ids), wanted, ids).any()


def test_a_mass_that_no_softmax_holds_is_not_accepted(monkeypatch):
    monkeypatch.setattr(outlier, "_STEPS", 300)
    logits, wanted, ids = random_case(50, 20, torch.linspace(0.5, 2.8, 6))  # below ln 20: m = 1
    result = descend_to_outliers(logits, wanted, ids, delta=0.0)
    assert (result.max_mass == 1.0).all()
    assert not result.accepted.all()
    check(result, wanted, ids, delta=0.0)


def test_rows_that_fail_leave_the_others_alone():
    logits, wanted, ids = random_case(320, 5, [0.5, 2.0, 4.0])
    alone = descend_to_outliers(logits[1:], wanted[1:], ids[1:])
    logits[0] = torch.linspace(-1e4, 1e4, 320)  # underflow: no gradient leads out of here
    result = descend_to_outliers(logits, torch.tensor([5.0, 2.0, 4.0], dtype=torch.float64), ids)
    assert result.accepted.tolist() == [False, True, True]
    assert torch.equal(result.logits[1:], alone.logits)
