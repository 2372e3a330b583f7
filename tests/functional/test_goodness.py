"""Draws and the likelihood-ratio test of their counts, against scipy and exact enumeration."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multinomial, power_divergence

from lit_prompt.functional import draw_outcomes, goodness_of_fit

INF = math.inf


def logs(*p):
    return torch.tensor(p, dtype=torch.float64).log()


def counts_of(outcomes, size):
    return torch.bincount(outcomes, minlength=size)


def random_log_probs(size, seed=0, scale=2.0):
    z = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * z).log_softmax(-1)


@pytest.mark.parametrize(("p", "number"), [((0.5, 0.5), 7), ((0.2, 0.3, 0.5), 6), ((0.1, 0.1, 0.2, 0.6), 5)])
def test_few_cells_equal_an_enumeration_of_all_counts(p, number):
    every = [c for c in product(range(number + 1), repeat=len(p)) if sum(c) == number]
    with np.errstate(divide="ignore", invalid="ignore"):
        g = [np.nansum(np.array(c) * np.log(np.array(c) / (number * np.array(p)))) for c in every]
    chance = multinomial(number, p).pmf(every)
    for c, value in list(zip(every, g, strict=True))[::3]:
        expected = min(1.0, chance[np.array(g) >= value - 1e-9].sum())
        found = goodness_of_fit(torch.tensor(c), logs(*p), replicates=9999)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 9999) + 2e-4)


@pytest.mark.parametrize("seed", range(5))
def test_many_draws_of_few_cells_equal_the_chi_squared_test_of_scipy(seed):
    log_p = random_log_probs(6, scale=0.5)
    counts = counts_of(draw_outcomes(random_log_probs(6, scale=0.52), 5000, seed), 6)
    expected = power_divergence(counts.numpy(), 5000 * log_p.exp().numpy(), lambda_="log-likelihood").pvalue
    assert goodness_of_fit(counts, log_p) == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(("cells", "draws"), [(5000, 100), (50, 200), (400, 400)])
def test_p_values_are_uniform_where_draws_come_from_the_target(cells, draws):
    log_p = random_log_probs(cells)
    found = [
        goodness_of_fit(counts_of(draw_outcomes(log_p, draws, seed), cells), log_p, seed=1000 + seed, replicates=199)
        for seed in range(300)
    ]
    assert kstest(found, "uniform").pvalue > 0.001
    assert np.mean(np.array(found) <= 0.05) <= 0.09


@pytest.mark.parametrize(("cells", "draws"), [(5000, 300), (50, 300)])
def test_draws_from_another_distribution_are_told(cells, draws):
    found = [
        goodness_of_fit(
            counts_of(draw_outcomes(random_log_probs(cells, 1), draws, seed), cells),
            random_log_probs(cells, 2), replicates=199,
        )
        for seed in range(10)
    ]  # fmt: skip
    assert max(found) <= 0.01


def test_an_outcome_that_the_target_does_not_have_refutes_it():
    log_p = logs(0.5, 0.5, 0.0)
    assert goodness_of_fit(torch.tensor([50, 50, 1]), log_p) == 0.0
    assert goodness_of_fit(torch.tensor([50, 50, 0]), log_p) > 0.9
    assert goodness_of_fit(torch.tensor([0, 0, 0]), log_p) == 1.0
    assert goodness_of_fit(torch.tensor([7, 0, 0]), logs(1.0, 0.0, 0.0)) == 1.0


def test_the_order_of_outcomes_and_a_constant_in_logits_change_nothing_but_the_draws():
    log_p, counts = random_log_probs(30), counts_of(draw_outcomes(random_log_probs(30), 80, 0), 30)
    found = goodness_of_fit(counts, log_p)
    assert goodness_of_fit(counts, log_p + 5.0) == found
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert goodness_of_fit(counts[order], log_p[order]) == pytest.approx(found, abs=0.025)
    assert goodness_of_fit(counts, log_p, seed=0) == found != goodness_of_fit(counts, log_p, seed=1)


def test_draws_have_the_probabilities_of_the_distribution():
    log_q = random_log_probs(12)
    log_q[[0, 5, 11]] = -INF
    log_q = log_q.log_softmax(-1)
    outcomes = draw_outcomes(log_q, 100_000, 3)
    assert (outcomes.dtype, outcomes.shape) == (torch.int64, (100_000,))
    counts = counts_of(outcomes, 12)
    assert counts[[0, 5, 11]].tolist() == [0, 0, 0]
    possible = log_q > -INF
    expected = 100_000 * log_q[possible].exp().numpy()
    assert power_divergence(counts[possible].numpy(), expected).pvalue > 0.001


def test_draws_depend_on_their_seed_alone():
    log_q = random_log_probs(1000)
    assert torch.equal(draw_outcomes(log_q, 50, 7), draw_outcomes(log_q, 50, 7))
    assert not torch.equal(draw_outcomes(log_q, 50, 7), draw_outcomes(log_q, 50, 8))
    assert torch.equal(draw_outcomes(log_q, 80, 7)[:50], draw_outcomes(log_q, 50, 7))
    assert draw_outcomes(log_q, 0, 7).tolist() == []
