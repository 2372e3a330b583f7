"""How many draws tell an LM from a target, against exact enumeration and simulation with numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, ncx2, norm

from lit_prompt.functional import draws_to_tell


def draws(p, q, **options):
    with np.errstate(divide="ignore"):
        rows = [torch.from_numpy(np.log(np.atleast_2d(x))) for x in (p, q)]
    found = draws_to_tell(*rows, **options)
    assert found.dtype == torch.float64
    return found.tolist() if np.ndim(p) > 1 else found.item()


def log_ratios(p, q):
    with np.errstate(divide="ignore"):
        return np.log(q) - np.log(p)


def most_powerful(total, under_p, under_q, level=0.05):
    """Power of the test that rejects outcomes of the largest log-ratio, a part of the last ones at random."""
    values, where = np.unique(-np.round(total, 9), return_inverse=True)
    p, q = (np.bincount(where, x, len(values)) for x in (under_p, under_q))
    return float(np.interp(level, np.append(0.0, p.cumsum()), np.append(0.0, q.cumsum())))


def exact_power(p, q, n):
    """By all sequences of n draws."""
    sequences = np.array(list(itertools.product(range(len(p)), repeat=n)))
    under_p, under_q = p[sequences].prod(1), q[sequences].prod(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.log(under_q) - np.log(under_p)
    possible = under_p + under_q > 0
    return most_powerful(total[possible], under_p[possible], under_q[possible])


def simulated_power(p, q, n, count=100_000, seed=0):
    generator, ratio = np.random.default_rng(seed), log_ratios(p, q)
    totals = [generator.multinomial(n, x, size=count) @ ratio for x in (p, q)]
    shares = np.full(count, 1 / count)
    zero = np.zeros(count)
    return most_powerful(np.concatenate(totals), np.concatenate([shares, zero]), np.concatenate([zero, shares]))


def pair(seed, outcomes, scale):
    generator = np.random.default_rng(seed)
    z = generator.normal(size=outcomes)
    p, q = np.exp(z), np.exp(z + scale * generator.normal(size=outcomes))
    return p / p.sum(), q / q.sum()


@pytest.mark.parametrize("seed", range(12))
def test_few_draws_are_those_of_an_exact_enumeration(seed):
    p, q = pair(seed, 3, 2.0)
    while (n := int(draws(p, q))) > 9:  # make q more unlike p
        q = q * (q / p)
        q /= q.sum()
    # the grid makes the test better, by less than a thousandth
    assert exact_power(p, q, n) >= 0.799
    assert n == 1 or exact_power(p, q, n - 1) < 0.8


@pytest.mark.parametrize(
    ("seed", "outcomes", "scale"),
    [(0, 6, 0.1), (1, 6, 0.5), (2, 6, 1.0), (3, 3, 2.0), (4, 50, 0.3), (5, 20, 1.5), (6, 10, 0.03)],
)
def test_power_is_reached_at_that_number_of_draws_and_not_before(seed, outcomes, scale):
    p, q = pair(seed, outcomes, scale)
    n = int(draws(p, q))
    error = 4 * math.sqrt(0.8 * 0.2 / 100_000) * 2  # of the threshold, and of the power there
    assert simulated_power(p, q, n) >= 0.8 - error
    fewer = min(n - 1, round(0.94 * n))
    assert simulated_power(p, q, fewer) < 0.8 - (0.0 if n < 20 else error)


@pytest.mark.parametrize("rare", [1e-3, 1e-5])
def test_a_rare_outcome_tells_of_a_bulk_that_is_equal(rare):
    # q makes the rare outcome 20 times as likely: the counts are Poisson, far from normal
    p = np.concatenate([[rare], np.full(1000, (1 - rare) / 1000)])
    q = np.concatenate([[20 * rare], np.full(1000, (1 - 20 * rare) / 1000)])
    n = int(draws(p, q))
    two = [np.array([x[0], 1 - x[0]]) for x in (p, q)]  # the same test
    assert n == pytest.approx(draws(*two), rel=2e-3)
    assert simulated_power(*two, n) >= 0.793
    assert simulated_power(*two, int(0.95 * n)) < 0.795


def test_what_only_one_of_them_gives_is_exact():
    die = np.full(6, 1 / 6)
    # one draw in ten is none of the die's: 1 - 0.9^n, and 5 % of the others rejected at random
    for mass in (0.1, 0.01, 1e-4):
        q = np.append(die * (1 - mass), mass)
        p = np.append(die, 0.0)
        needed = math.ceil(math.log(0.2 / 0.95) / math.log1p(-mass) - 1e-9)
        assert draws(p, q) == pytest.approx(needed, rel=1e-3, abs=0)
    # a face that the LM never gives: where none has come, reject, up to the level
    for mass in (0.5, 0.1, 0.01):
        q = np.append(die, 0.0)
        p = np.append(die * (1 - mass), mass)
        needed = math.ceil(math.log(0.05 / 0.8) / math.log1p(-mass) - 1e-9)
        assert draws(p, q) == pytest.approx(needed, rel=1e-3, abs=0)
    assert draws(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert draws(np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.5, 0.5])) == 1


@pytest.mark.parametrize("seed", range(4))
def test_mass_that_only_one_gives_counts_together_with_the_rest(seed):
    p, q = pair(seed, 3, 1.5)
    p, q = np.concatenate([p * 0.9, [0.1, 0.0]]), np.concatenate([q * 0.8, [0.0, 0.2]])
    n = int(draws(p, q))
    assert n <= 7
    assert exact_power(p, q, n) >= 0.799
    assert n == 1 or exact_power(p, q, n - 1) < 0.8


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5, 1e-6])
def test_of_small_ratios_it_is_the_normal_test(distance):
    generator = np.random.default_rng(0)
    p = np.full(5000, 1 / 5000)
    q = p * np.exp(distance * generator.normal(size=5000))
    q /= q.sum()
    variance = (p * log_ratios(p, q) ** 2).sum()
    expected = (norm.ppf(0.95) + norm.ppf(0.8)) ** 2 / variance
    assert draws(p, q) == pytest.approx(expected, rel=5e-3)


def test_equal_distributions_are_never_told_apart():
    z = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[1, :100] = -math.inf
    assert draws_to_tell(z, z).tolist() == [math.inf] * 3
    assert draws_to_tell(z, z.log_softmax(-1) + 2.0).tolist() == [math.inf] * 3
    assert draws_to_tell(z, z.float()).tolist() == [math.inf] * 3


def test_a_target_does_not_depend_on_its_company():
    rows = [pair(seed, 200, scale) for seed, scale in enumerate([0.01, 0.1, 0.3, 1.0, 2.0, 3.0] * 4)]
    p, q = (np.stack(x) for x in zip(*rows, strict=True))
    assert draws(p, q) == [draws(*row) for row in rows]
    assert draws_to_tell(torch.zeros(0, 5), torch.zeros(0, 5)).tolist() == []


def test_more_power_and_a_stricter_level_need_more_draws():
    p, q = pair(0, 20, 0.4)
    numbers = [draws(p, q, level=a, power=b) for a, b in [(0.05, 0.5), (0.05, 0.8), (0.01, 0.8), (0.01, 0.95)]]
    assert numbers == sorted(set(numbers))


def test_pearsons_test_needs_hundreds_of_draws_where_the_likelihood_ratio_needs_four():
    cells = 49_152
    # the LM has 9 / 10 of its mass where the target has a quarter
    p = np.full(cells, 1 / cells)
    q = np.repeat([3.6, 0.1 / 0.75], [cells // 4, 3 * cells // 4]) / cells
    likelihood_ratio = draws(p, q)
    # noncentral chi-squared over all cells: n sum (q - p)^2 / p beyond the quantile of the central one
    distance = ((q - p) ** 2 / p).sum()
    quantile = chi2.ppf(0.95, cells - 1)
    pearson = next(n for n in range(1, 500) if ncx2.sf(quantile, cells - 1, n * distance) >= 0.8)
    assert likelihood_ratio == 4
    assert 300 < pearson < 400


def test_outcomes_that_neither_has_change_nothing():
    p = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.5, 0.3, 0.2, 0.0]], dtype=torch.float64).log()
    q = torch.tensor([[0.0128, 0.0002, 0.0196, 0.9674], [0.4, 0.3, 0.25, 0.05]], dtype=torch.float64).log()
    nothing = torch.full((2, 2044), -math.inf, dtype=torch.float64)
    found = draws_to_tell(p, q)
    assert found[0] == 1
    assert torch.equal(draws_to_tell(torch.cat([p, nothing], 1), torch.cat([q, nothing], 1)), found)
