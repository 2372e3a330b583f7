"""Mixtures against a convex solver, brute force, and what must hold of them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lit_prompt.functional.mixture import GAP, gains, greedy_mixture, line_search, mixture_weights


def distributions(count, size, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(count, size, generator=generator, dtype=torch.float64)).softmax(-1)


def kl(p, m):
    return float(torch.where(p > 0, p * (p.clamp_min(1e-300).log() - m.log()), 0.0).sum())


def solved(p, q):
    """The least KL by SLSQP."""
    p, q = p.numpy(), q.numpy()
    found = minimize(
        lambda w: float((p * (np.log(p) - np.log(w @ q))).sum()),
        np.full(len(q), 1 / len(q)), jac=lambda w: -(q / (w @ q)) @ p, bounds=[(0, 1)] * len(q), method="SLSQP",
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 1000},
    )  # fmt: skip
    return found.fun


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("count", "size", "spread"), [(2, 5, 1.0), (5, 8, 2.0), (12, 40, 3.0), (30, 20, 1.0), (6, 4, 4.0)]
)
def test_weights_are_those_of_a_convex_solver(count, size, spread, seed):
    p, q = distributions(1, size, spread, 100 + seed)[0], distributions(count, size, spread, seed)
    found = mixture_weights(p, q)
    assert float(found.weights.sum()) == pytest.approx(1)
    assert bool((found.weights >= 0).all())
    assert found.kl == pytest.approx(kl(p, found.weights @ q), abs=1e-12)
    assert found.gap <= GAP
    best = solved(p, q)
    assert best - 1e-6 <= found.kl <= best + found.gap + 1e-6
    assert found.kl <= min(kl(p, one) for one in q) + 1e-12  # never above the best single one


def test_the_certificate_holds_before_the_end():
    for seed in range(20):
        p, q = distributions(1, 12, 2.0, 300 + seed)[0], distributions(6, 12, 2.0, 400 + seed)
        best = mixture_weights(p, q).kl
        weights = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        m = weights / weights.sum() @ q
        assert kl(p, m) - best <= math.log(float(gains(p, q, m).max())) + 1e-9


def test_a_component_more_never_hurts():
    for seed in range(10):
        p, q = distributions(1, 30, 2.0, 500 + seed)[0], distributions(8, 30, 2.0, 600 + seed)
        found = [mixture_weights(p, q[:count]).kl for count in range(1, 9)]
        assert all(more <= less + GAP for less, more in pairwise(found))


def test_two_components_by_brute_force():
    grid = torch.linspace(0, 1, 20001, dtype=torch.float64).unsqueeze(1)
    for seed in range(10):
        p, q = distributions(1, 6, 2.0, 700 + seed)[0], distributions(2, 6, 2.0, 800 + seed)
        every = (p * (p.log() - ((1 - grid) * q[0] + grid * q[1]).log())).sum(-1)
        assert mixture_weights(p, q).kl == pytest.approx(float(every.min()), abs=1e-7)
        share, least = line_search(p, q[0], q[1:])
        assert float(least) == pytest.approx(float(every.min()), abs=1e-7)
        assert float(share) == pytest.approx(float(grid[every.argmin()]), abs=1e-3)


def test_the_whole_of_its_parts():
    q = torch.eye(4, dtype=torch.float64) * 0.97 + 0.0075
    q /= q.sum(1, keepdim=True)
    p = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    found = mixture_weights(p, q)
    assert found.kl < 0.01 < min(kl(p, one) for one in q)  # below every single one
    assert found.weights[3] == 0.0  # of no use, as it has mass where there is to be none
    assert mixture_weights(q[0], q).weights.tolist() == [1, 0, 0, 0]
    never = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]], dtype=torch.float64)
    assert mixture_weights(torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64), never).kl == pytest.approx(0, abs=1e-9)
    assert mixture_weights(torch.tensor([0.5, 0, 0.5, 0], dtype=torch.float64), never).kl == math.inf


def test_a_greedy_choice_from_a_bank():
    p, bank = distributions(1, 50, 2.0, 1)[0], distributions(200, 50, 2.0, 2)
    whole = mixture_weights(p, bank)
    before = math.inf
    for most in (1, 2, 4, 8, 16):
        chosen, found = greedy_mixture(p, bank, most)
        assert len(chosen) == len(found.weights) <= most
        assert len(set(chosen)) == len(chosen)
        assert found.kl == pytest.approx(kl(p, found.weights @ bank[chosen]), abs=1e-12)
        assert whole.kl - 1e-9 <= found.kl <= before
        assert found.kl - whole.kl <= found.gap + 1e-9
        before = found.kl + 1e-12
    pairs = [mixture_weights(p, bank[[i, j]]).kl for i in range(40) for j in range(i)]
    _, found = greedy_mixture(p, bank[:40], 2)
    assert min(pairs) <= found.kl <= min(pairs) + 0.15


def test_a_slope_is_a_poor_ranking():
    """Of 300 random cases the candidate of the largest gain is mostly not the best addition."""
    worse = 0
    for seed in range(300):
        q = distributions(31, 12, 2.0, 1000 + seed)
        p, m = distributions(1, 12, 2.0, 5000 + seed)[0], q[0]
        _, least = line_search(p, m, q[1:])
        worse += int(least.argmin()) != int(gains(p, q[1:], m).argmax())
    assert worse > 150


def test_weights_are_the_same_bit_for_bit_wherever_they_are_in_memory():
    p, q = distributions(1, 300, 3.0, 7)[0], distributions(6, 300, 3.0, 8)
    kept, found = [], set()
    for size in range(40):
        kept.append(torch.zeros(1 + 37 * size))  # moves what is allocated next
        found.add(tuple(mixture_weights(p.clone(), q.clone()).weights.tolist()))
    assert len(found) == 1


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_certified_where_the_kl_falls_no_further(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(250):
        size, count = (int(torch.randint(2, most, (), generator=generator)) for most in (40, 20))
        spread = 8 * torch.rand((), dtype=torch.float64, generator=generator)
        logits = spread * torch.randn(count + 1, size, dtype=torch.float64, generator=generator)
        p, *q = logits.softmax(-1)
        found = mixture_weights(p, torch.stack(q))
        assert found.gap <= GAP
        assert found.kl <= min(float((p * (p / each).log()).sum()) for each in q) + 1e-12


def test_an_outcome_that_hardly_counts_keeps_no_component_out():
    # the last component has the largest gain, for the last outcome's sake, and is worth a weight of 1e-20
    p = torch.tensor([0.5, 0.5 - 1e-20, 1e-20], dtype=torch.float64)
    q = torch.tensor([[0.6, 0.4, 1e-60], [0.2, 0.8, 1e-60], [1e-9, 1e-9, 1.0]], dtype=torch.float64)
    found = mixture_weights(p, q)
    assert found.weights.tolist() == pytest.approx([0.75, 0.25, 0.0], abs=1e-6)
    assert found.kl == pytest.approx(0.0, abs=1e-12)
    assert kl(p, q[0]) > 0.02
