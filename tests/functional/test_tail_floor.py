"""The token floor of an LM's tails against brute force over permutations, exhaustive search and simulation."""

import math
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
import torch
from scipy.special import xlogy

from lit_prompt.functional import Tails, kl_floor_tails, prompt_information
from lit_prompt.functional.tail_floor import _POWERS, _RANKS
from tests.functional.test_token_floor import TinyLM, kl_rows, moment, random_ps, shuffled
from tests.functional.test_token_floor import floors as token_floors


def tails_of(q):
    return Tails.of(torch.tensor(np.atleast_2d(q)).log())


def floors(p, tails, information):
    """Floors of distributions ``[target, vocab]`` for one C, nats, ``[target]``."""
    log_p = torch.tensor(np.atleast_2d(p)).log()
    return kl_floor_tails(log_p, tails, torch.tensor([information], dtype=torch.float64))[:, 0].numpy()


def renyi(order, r):
    """The Rényi divergence of the uniform distribution from r, of an order below 1, by its definition."""
    u = np.full(len(r), 1 / len(r))
    if order == 0.0:
        return 0.0
    return math.log((u**order * r ** (1 - order)).sum()) / (order - 1)


def test_divergences_are_the_least_over_prompts_and_choices_of_tokens():
    rng = np.random.default_rng(0)
    size = 7
    q = np.array([*rng.dirichlet(np.full(size, 0.3), 3), *rng.dirichlet(np.full(size, 5.0), 2)]).clip(1e-12)
    q /= q.sum(1, keepdims=True)
    found = tails_of(q).divergences.numpy()
    ranks = [k for k in _RANKS if k < size]
    assert found.shape == (len(ranks), len(_POWERS))
    for row, k in zip(found, ranks, strict=True):
        rest = [np.delete(each, list(apart)) for each in q for apart in combinations(range(size), k)]
        for value, power in zip(row, _POWERS.tolist(), strict=True):
            assert value == pytest.approx(min(renyi(1 - power, r / r.sum()) for r in rest), abs=1e-9)


def test_tails_of_more_prompts_are_the_least_of_both():
    rng = np.random.default_rng(1)
    q = np.array([rng.dirichlet(np.full(60, a)) for a in (0.1, 0.4, 0.8)]).clip(1e-12)
    parts = [tails_of(each).divergences for each in q]
    together = tails_of(q[:2]).with_prompts_of(tails_of(q[2:])).divergences
    assert torch.equal(together, torch.stack(parts).amin(0))
    assert torch.equal(together, tails_of(q).divergences)
    assert all((together < part).any() for part in parts[:2])


def test_between_two_powers_nothing_is_claimed_that_does_not_hold():
    q = np.random.default_rng(2).dirichlet(np.full(40, 0.3)).clip(1e-12)
    tails = tails_of(q)
    exponents = np.geomspace(1e-6, 1.0, 200)
    claimed = tails.below(0, torch.as_tensor(exponents)).numpy()
    true = np.array([renyi(1 - a, q / q.sum()) for a in exponents])
    assert (claimed <= true + 1e-9).all()
    assert (claimed > true - 0.01 * true.max()).all()


def test_no_permutation_moment_passes_the_bound():
    rng = np.random.default_rng(3)
    closest = -np.inf
    for case in range(60):
        p = np.sort(rng.dirichlet(np.full(6, (0.3, 1.0, 5.0)[case % 3])))[::-1].copy()
        q = rng.dirichlet(np.full(6, (0.2, 0.7, 3.0)[case // 3 % 3])).clip(1e-9)
        tails = tails_of(q / q.sum())
        # with C = 0 the claim at t is that -t ln E - H is no lower
        h = -xlogy(p, p).sum()
        bound = floors(p, tails, 0.0)[0]
        if bound == 0.0:
            continue
        ends = [1000 * p[0], *p]
        ts = np.concatenate([np.geomspace(low, high, 40) for high, low in pairwise(ends)])
        best = max(-t * math.log(max(moment(p, q / q.sum(), 1 / t), 1e-300)) - h for t in ts)
        assert bound <= best + 1e-6
        closest = max(closest, bound - best)
    assert closest > -0.05


@pytest.mark.parametrize(("eps", "often"), [(0.1, 5), (0.5, 25)])
def test_of_all_permutations_of_six_tokens_no_more_than_eps_are_below(eps, often):
    rng = np.random.default_rng(4)
    orders, above = np.array(list(permutations(range(6)))), 0
    for p in random_ps(rng, 6):
        for q in rng.dirichlet(np.full(6, 0.2), 8).clip(1e-9):
            floor = floors(p, tails_of(q / q.sum()), math.log(1 / eps))[0]
            kl = xlogy(p, p).sum() - (p[orders] * np.log(q / q.sum())).sum(1)
            assert (kl < floor - 1e-9).mean() <= eps
            above += floor > token_floors(p, math.log(1 / eps))[0] + 0.1
    assert above >= often


@pytest.mark.parametrize("eps", [0.05, 0.5])
@pytest.mark.parametrize(("vocab", "allowed", "length"), [(24, 24, 1), (100, 4, 2)])
def test_exhaustive_search_over_all_prompts_of_an_lm(vocab, allowed, length, eps):
    rng = np.random.default_rng(5)
    count, higher = 3000, 0
    q = TinyLM(rng, vocab).every(range(allowed), length)
    tails = tails_of(q)
    information = prompt_information(allowed, length, eps=eps)
    for p in random_ps(rng, vocab):
        floor = floors(p, tails, information)[0]
        best = kl_rows(shuffled(rng, p, count), q).min(1)
        assert (best < floor).sum() <= eps * count + 4 * math.sqrt(eps * count)
        higher += floor > token_floors(p, information)[0] + 0.1
    assert higher >= 2


def test_of_a_flat_target_all_that_is_missed_is_the_tail():
    rng = np.random.default_rng(6)
    q = rng.dirichlet(np.full(3000, 0.5)).clip(1e-12)
    q /= q.sum()
    u = np.full(3000, 1 / 3000)
    kl = xlogy(u, u).sum() - (u * np.log(q)).sum()  # wherever its tokens are
    assert token_floors(u, 10.0)[0] == 0.0
    assert 0.8 * kl < floors(u, tails_of(q), 10.0)[0] < kl


def test_even_tails_give_the_token_floor_and_uneven_ones_more():
    rng = np.random.default_rng(7)
    for p in random_ps(rng, 200):
        for information in (0.0, 5.0, 50.0):
            least = token_floors(p, information)[0]
            assert floors(p, tails_of(np.full(200, 1 / 200)), information)[0] == pytest.approx(least, abs=1e-9)
            assert floors(p, tails_of(rng.dirichlet(np.full(200, 0.2)).clip(1e-15)), information)[0] >= least


def test_a_target_does_not_depend_on_its_company_or_order():
    rng = np.random.default_rng(8)
    p, tails = random_ps(rng, 300), tails_of(rng.dirichlet(np.full(300, 0.3), 3).clip(1e-12))
    together = floors(p, tails, 20.0)
    assert together == pytest.approx(np.concatenate([floors(each, tails, 20.0) for each in p]), abs=1e-12)
    assert together == pytest.approx(floors(p[:, rng.permutation(300)], tails, 20.0), abs=1e-9)
