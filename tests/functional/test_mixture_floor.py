"""The token floor of mixtures against the best mixtures of all prompts, brute force, and codebooks that reach it."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import comb, xlogy

from lit_prompt.functional import kl_floor_tokens, log_mixture_count, log_prompt_count, mixture_floor_tokens
from tests.functional.test_token_floor import TinyLM, random_ps, shuffled


def floors(p, prompts, components, eps, exchangeable=None):
    """Floors of mixtures of so many of a number of prompts, nats, ``[target]``."""
    p = torch.as_tensor(np.atleast_2d(p))
    mask = torch.ones(p.shape, dtype=torch.bool) if exchangeable is None else torch.as_tensor(exchangeable)
    counts, log_eps = (torch.tensor([math.log(x)], dtype=torch.float64) for x in (prompts, eps))
    return mixture_floor_tokens(p.log(), mask.expand(p.shape), counts, log_eps, components)[:, 0].numpy()


def least_kl_of_pairs(targets, q, halvings=40):
    """The least KL of each target to a mixture of two of ``q``, with the best weights, nats, ``[target]``."""
    first, second = np.array(list(combinations(range(len(q)), 2))).T
    best = np.full(len(targets), np.inf)
    for rows in np.array_split(np.arange(len(targets)), max(1, len(targets) // 100)):
        p = targets[rows][:, None]
        low, high = np.zeros((len(rows), len(first))), np.ones((len(rows), len(first)))
        for _ in range(halvings):
            t = (low + high) / 2
            m = q[first] + t[..., None] * (q[second] - q[first])
            falls = (p * (q[second] - q[first]) / m).sum(2) > 0
            low, high = np.where(falls, t, low), np.where(falls, high, t)
        kl = (xlogy(p, p) - p * np.log(m)).sum(2)
        best[rows] = kl.min(1)
    return best


def test_weights_that_are_rounded_cost_no_more_than_is_taken_off():
    rng = np.random.default_rng(0)
    for components in (1, 2, 3, 7):
        for parts in (1, 2, 3, 10, 97):
            for w in rng.dirichlet(np.full(components, 0.5), 200):
                whole = np.ceil(parts * w)
                units = parts + components - 1
                assert whole.sum() <= units
                whole[0] += units - whole.sum()
                assert (whole / units >= w / (1 + (components - 1) / parts) - 1e-12).all()


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("components", [1, 2, 3])
def test_no_mixture_with_rounded_weights_is_left_uncounted(components, parts):
    units, prompts = parts + components - 1, 6
    counted = sum(comb(prompts, j) * comb(units - 1, j - 1) for j in range(1, components + 1))
    every = set()
    for places in np.ndindex(*[prompts] * components):
        for weights in np.ndindex(*[units + 1] * components):
            if sum(weights) == units:
                of_prompts = np.zeros(prompts, dtype=int)
                np.add.at(of_prompts, list(places), weights)
                every.add(tuple(of_prompts))
    assert len(every) == counted
    most = float(log_mixture_count(torch.tensor([math.log(prompts)], dtype=torch.float64), components, parts))
    assert math.log(counted) <= most + 1e-12
    assert most <= math.log(counted) + math.lgamma(components + 1)
    # what is claimed for pairs of all prompts of real length stays a number
    huge = torch.tensor([log_prompt_count(49152, 100, shorter=True)], dtype=torch.float64)
    assert float(log_mixture_count(huge, 16, 2**20)) < 16 * float(huge) + 16 * math.log(2**21)


@pytest.mark.parametrize("eps", [0.05, 0.5])
@pytest.mark.parametrize(("vocab", "allowed", "length"), [(100, 4, 1), (100, 2, 2)])
def test_the_best_mixtures_of_all_pairs_of_prompts_of_an_lm(vocab, allowed, length, eps):
    rng = np.random.default_rng(1)
    count, positive = 1000, 0
    q = TinyLM(rng, vocab).every(range(allowed), length)
    for p in random_ps(rng, vocab):
        floor = floors(p, len(q), 2, eps)[0]
        positive += floor > 0.02
        best = least_kl_of_pairs(shuffled(rng, p, count), q)
        assert (best < floor).sum() <= eps * count + 4 * math.sqrt(eps * count)
    assert positive >= 5


def test_the_pairs_weights_are_the_best_ones():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(6), 5), rng.dirichlet(np.ones(6), 4)
    grid = np.linspace(0, 1, 2001)
    for target, found in zip(p, least_kl_of_pairs(p, q), strict=True):
        every = [
            (xlogy(target, target) - target * np.log(a + grid[:, None] * (b - a))).sum(1).min()
            for a, b in combinations(q, 2)
        ]
        assert found == pytest.approx(min(every), abs=1e-5)
        assert found <= min(every) + 1e-12


@pytest.mark.parametrize("components", [2, 3, 8])
def test_prompts_that_name_a_token_each_say_all_targets_of_so_many_tokens(components):
    # any weights: nothing may be claimed, where single prompts are far from all of these targets
    for vocab in (30, 400):
        for p in (np.full(components, 1 / components), np.random.default_rng(3).dirichlet(np.ones(components))):
            target = np.r_[p, np.zeros(vocab - components)]
            assert floors(target, vocab, components, 0.9)[0] == pytest.approx(0.0, abs=1e-9)
    assert floors(np.r_[np.full(2, 0.5), np.zeros(398)], 400, 1, 0.9)[0] > 2.0


@pytest.mark.parametrize("eps", [0.1, 0.5])
def test_codebooks_of_tokens_that_are_shared_between_two(eps):
    # each prompt names half as many tokens as chance allows; a mixture of two of them is the best for one-hot targets
    rng = np.random.default_rng(4)
    vocab, count = 300, 1000
    for prompts in (2, 4):
        named = max(1, round(eps * vocab / prompts))
        q = np.full((prompts, vocab), 1e-300)
        for row in range(prompts):
            q[row, row * named : (row + 1) * named] = 1 / named
        for tokens in (1, 2, 4):
            p = np.r_[np.full(tokens, 1 / tokens), np.zeros(vocab - tokens)]
            best = least_kl_of_pairs(shuffled(rng, p, count), q)
            floor = floors(p, prompts, 2, eps)[0]
            assert (best < floor).sum() <= eps * count + 4 * math.sqrt(eps * count)


def test_a_single_prompt_is_a_mixture_of_one():
    p = torch.tensor(random_ps(np.random.default_rng(5), 40)).log()
    mask, counts = torch.ones(p.shape, dtype=torch.bool), torch.tensor([0.0, 3.0, 40.0], dtype=torch.float64)
    log_eps = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
    assert torch.equal(mixture_floor_tokens(p, mask, counts, log_eps, 1), kl_floor_tokens(p, mask, counts - log_eps))


def test_it_is_the_best_of_many_more_roundings():
    rng = np.random.default_rng(6)
    p = torch.tensor(np.stack([rng.dirichlet(np.full(500, a)) for a in (0.05, 0.5)])).log()
    mask, log_prompts = torch.ones(p.shape, dtype=torch.bool), torch.tensor([5.0], dtype=torch.float64)
    log_eps = torch.tensor([math.log(1e-6)], dtype=torch.float64)
    for components in (2, 5):
        found = mixture_floor_tokens(p, mask, log_prompts, log_eps, components)[:, 0]
        best = torch.zeros(2, dtype=torch.float64)
        for parts in [*range(1, 12), *range(15, 3000, 400)]:
            # as the issue of the claim has it: looser, and simpler to count
            count = components * log_prompts + math.log(comb(parts + components, components))
            plain = kl_floor_tokens(p, mask, count - log_eps)[:, 0] - math.log1p(components / parts)
            own = kl_floor_tokens(p, mask, log_mixture_count(log_prompts, components, parts) - log_eps)[:, 0]
            own = own - math.log1p((components - 1) / parts)
            assert (plain <= own + 1e-12).all()
            best = torch.maximum(best, own)
        assert (found >= best - 2e-3).all()
        assert (best > 0.1).any()


def test_more_prompts_in_a_mixture_are_promised_more_room():
    p = random_ps(np.random.default_rng(7), 60)
    found = np.stack([floors(p, 100, components, 1e-3) for components in (1, 2, 4, 16)])
    assert (np.diff(found, axis=0) <= 1e-12).all()
    assert (found[0] > found[1]).any()


def test_fixed_tokens_and_company_change_nothing():
    rng = np.random.default_rng(8)
    exchangeable = np.array([True] * 100 + [False] * 10)
    p = np.stack([rng.dirichlet(np.full(110, a)) for a in (0.1, 0.3, 1.0)])
    together = floors(p, 20, 3, 0.01, exchangeable)
    assert together == pytest.approx(np.concatenate([floors(each, 20, 3, 0.01, exchangeable) for each in p]), abs=1e-12)
    targets = shuffled(rng, p[0], 1000, exchangeable)
    q = np.array([0.9 * shuffled(rng, p[0], 1, exchangeable)[0] + 0.1 / 110 for _ in range(4)])
    floor = floors(p[0], 4, 2, 0.3, exchangeable)[0]
    assert floor > 0.02
    assert (least_kl_of_pairs(targets, q) < floor).mean() <= 0.3 + 4 * math.sqrt(0.3 / 1000)
