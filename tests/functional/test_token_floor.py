"""The token floor against exhaustive search, brute force, simulation, and its formula on a grid of s."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.special import gammaln, xlogy

from lit_prompt.functional import kl_floor_tokens, prompt_information, temperature_for_entropy
from lit_prompt.functional.token_floor import Ranked


def floors(p, information, exchangeable=None):
    """Floors of distributions ``[target, vocab]`` for one C, nats, ``[target]``."""
    p = torch.as_tensor(np.atleast_2d(p))
    mask = torch.ones(p.shape, dtype=torch.bool) if exchangeable is None else torch.as_tensor(exchangeable)
    information = torch.tensor([information], dtype=torch.float64)
    return kl_floor_tokens(p.log(), mask.expand(p.shape), information)[:, 0].numpy()


def kl_rows(p, q):
    """KL of every target to every q, nats, ``[target, q]``."""
    return xlogy(p, p).sum(1)[:, None] - p @ np.log(q).T


def random_ps(rng, size):
    """Distributions of all kinds: flat, peaked, with ties and with zeros."""
    z = rng.normal(size=size)
    kinds = [z, 3 * z, 8 * z, np.round(z), np.where(z > 0, z, -np.inf), np.zeros(size), -np.arange(size)]
    p = np.exp(np.array(kinds))
    return p / p.sum(1, keepdims=True)


def shuffled(rng, p, count, exchangeable=None):
    """So many targets with the probabilities of p, moved among the exchangeable tokens."""
    movable = np.arange(len(p)) if exchangeable is None else np.flatnonzero(exchangeable)
    targets = np.tile(p, (count, 1))
    targets[:, movable] = rng.permuted(targets[:, movable], axis=1)
    return targets


def on_a_grid(p, information, fixed=(), points=1500):
    """The bound as the docs have it, for every k and many s."""
    p, fixed = np.sort(p)[::-1], np.array(fixed)
    size, h = len(p), -xlogy(p, p).sum() - xlogy(fixed, fixed).sum()
    best = 0.0
    for k in range(size + 1):
        low = 1 / p[k - 1] if k and p[k - 1] else (np.inf if k else 1e-3)
        high = 1 / p[k] if k < size and p[k] else 1e6 * low
        if not np.isfinite(low):
            continue
        for s in np.geomspace(low, high, points):
            tail = p[k:].sum()
            w = np.array([*(s * p[:k] - 1), s * tail, *(s * fixed)]).clip(0)
            entropies = (s - k) * -xlogy(w / (s - k), w / (s - k)).sum() if s - k > 1e-9 else 0.0
            places = gammaln(size + 1) - gammaln(size - k + 1)
            best = max(best, xlogy(tail, size - k) - h + (entropies + places - information) / s)
    return best


@pytest.mark.parametrize("information", [0.0, 1.0, 6.0])
def test_it_is_the_best_of_the_formula(information):
    for p in random_ps(np.random.default_rng(0), 8):
        found, expected = floors(p, information)[0], on_a_grid(p, information)
        assert found == pytest.approx(expected, abs=1e-4)
        assert found >= expected - 1e-9


def test_it_is_the_best_of_the_formula_with_fixed_tokens():
    rng = np.random.default_rng(1)
    exchangeable = np.array([True] * 7 + [False] * 2)
    for information in (0.0, 1.0, 4.0):
        p = rng.dirichlet(np.full(9, 0.5))
        found = floors(p, information, exchangeable)[0]
        expected = on_a_grid(p[:7], information, p[7:])
        assert found == pytest.approx(expected, abs=1e-4)
        assert found >= expected - 1e-9


def test_few_values_of_k_are_as_good_as_all():
    size, most = 20_000, 1500
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(2))
    p = temperature_for_entropy(logits, torch.tensor([8.0, 8.8, 9.4])).double().softmax(-1).sort(1, descending=True)[0]
    tails = p.flip(1).cumsum(1).flip(1).numpy()
    for information in (200.0, 900.0):
        for probs, tail in zip(p.numpy(), tails, strict=True):
            best, at = 0.0, 0
            for k in range(1, most):  # at the least t alone, which the best k has here
                t, above = probs[k], probs[:k] - probs[k]
                value = xlogy(tail[k], (size - k) / tail[k]) + xlogy(probs, probs).sum()
                value += xlogy(1 - k * t, 1 - k * t) - xlogy(above, above).sum()
                value += t * (gammaln(size + 1) - gammaln(size - k + 1) - information)
                best, at = max((best, at), (value, k))
            assert floors(probs, information)[0] == pytest.approx(best, abs=1e-3)
    assert at > 400


def moment(p, q, s):
    """E over all permutations of the product of q^(s p)."""
    orders = np.array(list(permutations(range(len(p)))))
    return np.exp((s * p * np.log(np.maximum(q, 1e-300))[orders]).sum(1)).mean()


def most_moment(rng, p, s, fixed=()):
    """The greatest moment that scipy finds over all q, fixed tokens' included."""
    size, fixed = len(p), np.array(fixed)

    def loss(z):
        q = np.exp(z - z.max())
        q /= q.sum()
        return -math.log(max(moment(p, q[:size], s), 1e-300)) - s * (fixed * np.log(q[size:] + 1e-300)).sum()

    starts = [rng.normal(size=size + len(fixed)) * scale for scale in (0.1, 1.0, 3.0)]
    return math.exp(-min(scipy.optimize.minimize(loss, start, method="L-BFGS-B").fun for start in starts))


@pytest.mark.parametrize("fixed", [0, 1])
def test_no_q_passes_the_bound_of_its_moment_and_some_reach_it(fixed):
    rng = np.random.default_rng(3)
    closest = 0.0
    for case in range(24):
        even = np.ones(6 + fixed)
        p = rng.dirichlet((0.2, 1.0, 5.0)[case % 3] * even) if case else even / even.sum()
        own, others = np.sort(p[:6])[::-1], p[6:]
        ends = [np.inf, *own, 0.0]
        k = int(rng.integers(0, 6)) if case else 0
        high, low = min(ends[k], 3 * own[0]), ends[k + 1]
        t = max(low + rng.random() * (high - low) if case else low, 1e-3)
        if not low <= t <= high:
            continue
        exchangeable = torch.tensor([[True] * 6 + [False] * fixed])
        split = Ranked.of(torch.tensor(p[None]), exchangeable).split(k, torch.tensor([0]))
        bound = float(split.bound(torch.tensor([t], dtype=torch.float64))[0])
        log_bound = -(bound - xlogy(p, p).sum()) / t
        found = math.log(most_moment(rng, own, 1 / t, others))
        assert found <= log_bound + 1e-6
        closest = max(closest, found - log_bound)
    assert fixed or closest == pytest.approx(0.0, abs=1e-6)


def test_beyond_its_conditions_on_s_the_bound_of_the_moment_fails():
    rng = np.random.default_rng(4)
    p = np.array([0.6, 0.2, 0.1, 0.05, 0.03, 0.02])
    split = Ranked.of(torch.tensor(p[None]), torch.ones(1, 6, dtype=torch.bool)).split(0, torch.tensor([0]))
    s = 6.0  # above 1 / p_1: the first token meets an exponent of more than 1
    log_bound = -s * (-xlogy(p, p).sum() + float(split.bound(torch.tensor([1 / s], dtype=torch.float64))[0]))
    assert math.log(most_moment(rng, p, s)) > log_bound + 0.1


@pytest.mark.parametrize("eps", [0.2, 0.5])
def test_of_all_permutations_of_six_tokens_no_more_than_eps_are_below(eps):
    rng = np.random.default_rng(5)
    orders, above = np.array(list(permutations(range(6)))), 0
    for p in [*random_ps(rng, 6), *rng.dirichlet(np.full(6, 0.5), 5)]:
        floor = floors(p, math.log(1 / eps))[0]
        above += floor > 1e-3
        for s in (1.0, 2.0, 5.0):

            def loss(z, p=p, s=s):
                q = np.exp(z - z.max())
                return -math.log(moment(p, q / q.sum(), s))

            z = scipy.optimize.minimize(loss, rng.normal(size=6), method="L-BFGS-B").x
            q = np.exp(z - z.max())
            q = (q / q.sum()).clip(1e-300)
            kl = xlogy(p, p).sum() - (p[orders] * np.log(q)).sum(1)
            assert (kl < floor - 1e-9).mean() <= eps
    assert above >= 2


class TinyLM:
    """A recurrent network with random weights: next-token distributions of every prompt."""

    def __init__(self, rng, vocab, dim=8, scale=2.5):
        self._embedding = rng.normal(size=(vocab, dim))
        self._step = rng.normal(size=(dim, dim)) / math.sqrt(dim)
        self._head = scale * rng.normal(size=(dim, vocab))

    def every(self, allowed, length):
        """Of all prompts of so many of the allowed tokens, ``[prompt, vocab]``."""
        found = []
        for prompt in product(allowed, repeat=length):
            state = np.zeros(len(self._step))
            for token in prompt:
                state = np.tanh(state @ self._step + self._embedding[token])
            found.append(state @ self._head)
        z = np.exp(np.array(found) - np.max(found, 1, keepdims=True))
        return z / z.sum(1, keepdims=True)


@pytest.mark.parametrize("eps", [0.05, 0.5])
@pytest.mark.parametrize(("allowed", "length", "shorter"), [(24, 1, False), (3, 3, False), (2, 4, True)])
def test_exhaustive_search_over_all_prompts_of_an_lm(allowed, length, shorter, eps):
    rng = np.random.default_rng(6)
    vocab, count, positive = 24, 3000, 0
    lm = TinyLM(rng, vocab)
    lengths = range(1, length + 1) if shorter else [length]
    q = np.concatenate([lm.every(range(allowed), n) for n in lengths])
    information = prompt_information(allowed, length, eps=eps, shorter=shorter)
    assert math.exp(information) * eps == pytest.approx(len(q))
    for p in random_ps(rng, vocab):
        floor = floors(p, information)[0]
        positive += floor > 0.02
        best = kl_rows(shuffled(rng, p, count), q).min(1)
        assert (best < floor).sum() <= eps * count + 4 * math.sqrt(eps * count)
    assert positive >= 2


@pytest.mark.parametrize("eps", [0.05, 0.5])
def test_codebooks_that_name_tokens_reach_it(eps):
    # prompts that share the tokens among them: the best that can be done for one-hot targets
    vocab, count = 2000, 4000
    rng = np.random.default_rng(7)
    for prompts in (1, 5, 20):
        named = round(eps * vocab / prompts)
        q = np.full((prompts, vocab), 1e-300)
        for row in range(prompts):
            q[row, row * named : (row + 1) * named] = 1 / named
        targets = shuffled(rng, np.eye(vocab)[0], count)
        best = kl_rows(targets, q).min(1)
        floor = floors(np.eye(vocab)[0], math.log(prompts / eps))[0]
        assert floor == pytest.approx(math.log(vocab * eps / prompts))
        assert (best >= floor - 1e-9).all()
        at_it = (best < floor + 1e-9).mean()  # nothing above it would hold
        assert at_it == pytest.approx(eps, abs=4 * math.sqrt(eps / count))


@pytest.mark.parametrize("eps", [0.05, 0.5])
def test_random_codebooks(eps):
    rng = np.random.default_rng(8)
    vocab, prompts, count = 40, 500, 1500
    for p in random_ps(rng, vocab):
        floor = floors(p, math.log(prompts / eps))[0]
        # shapes of q that suit the target: its own probabilities, blurred, in a random order
        q = np.array([rng.permutation(0.8 * p + 0.2 / vocab) for _ in range(prompts)])
        best = kl_rows(shuffled(rng, p, count), q).min(1)
        assert (best < floor).sum() <= eps * count + 4 * math.sqrt(eps * count)


@pytest.mark.parametrize("eps", [0.05, 0.5])
def test_targets_with_fixed_tokens(eps):
    # as outlier targets: three heavy tokens among the ordinary ones, and special ones that keep their places
    rng = np.random.default_rng(9)
    exchangeable = np.array([True] * 30 + [False] * 10)
    p = np.r_[[0.3, 0.2, 0.15], rng.dirichlet(np.ones(37)) * 0.35]
    targets = shuffled(rng, p, 3000, exchangeable)
    np.testing.assert_array_equal(targets[:, 30:], np.tile(p[30:], (3000, 1)))
    assert len(np.unique(targets[:, 0])) > 20
    q = np.array([0.9 * shuffled(rng, p, 1, exchangeable)[0] + 0.1 / 40 for _ in range(20)])
    floor = floors(p, math.log(20 / eps), exchangeable)[0]
    assert floor > 0.05
    assert (kl_rows(targets, q).min(1) < floor).sum() <= eps * 3000 + 4 * math.sqrt(eps * 3000)
    # every target of a batch has its own exchangeable tokens
    both = floors(np.stack([p, p]), math.log(20 / eps), np.stack([exchangeable, np.ones(40, bool)]))
    assert both[0] == floor
    assert both[1] == floors(p, math.log(20 / eps))[0]


def test_with_a_vocabulary_that_is_too_large_the_claim_is_false():
    # one-hot targets over 10 of 100 tokens, one prompt, that gives those 10 a tenth each
    targets = np.eye(100)[np.random.default_rng(10).integers(0, 10, 1000)]
    q = np.r_[np.full(10, 0.1), np.full(90, 1e-300)][None]
    best = kl_rows(targets, q)[:, 0]
    information = prompt_information(1, 1, eps=0.3)
    wrong = floors(targets[:1], information)[0]
    right = floors(targets[:1], information, np.arange(100) < 10)[0]
    assert best == pytest.approx(math.log(10))
    assert (round(wrong, 2), round(best.max(), 2)) == (3.40, 2.30)
    assert (best < wrong).all()
    assert right == pytest.approx(math.log(10 * 0.3))
    assert (best >= right).all()


def test_a_one_hot_target_costs_what_naming_its_token_costs():
    for information in (0.0, 2.0, 50.0):
        assert floors(np.eye(50)[3], information)[0] == pytest.approx(max(0.0, math.log(50) - information))


def test_a_uniform_target_costs_nothing():
    assert floors(np.full(50, 1 / 50), 0.0)[0] == pytest.approx(0.0, abs=1e-12)
    assert floors(np.full(50, 1 / 50), 3.0)[0] == 0.0


@pytest.mark.parametrize("size", [1, 2, 7, 49])
def test_a_target_that_is_uniform_on_some_tokens(size):
    p = np.r_[np.full(size, 1 / size), np.zeros(50 - size)]
    for information in (0.0, 1.0, 5.0):
        expected = max(0.0, math.log(50 / size) - information / size)  # k = 0 at s = 1 / p_1
        assert floors(p, information)[0] == pytest.approx(expected, abs=1e-9)


def test_no_more_is_claimed_of_more_prompts_and_they_are_counted():
    p = random_ps(np.random.default_rng(11), 30)
    information = [prompt_information(1000, length) for length in (1, 2, 5)]
    found = np.stack([floors(p, each) for each in information])
    assert (np.diff(found, axis=0) <= 0).all()
    assert information[0] == pytest.approx(math.log(1000) + 6 * math.log(10))
    assert prompt_information(1000, 2, claims=12) == pytest.approx(information[1] + math.log(12))
    assert prompt_information(10, 3, eps=1.0, shorter=True) == pytest.approx(math.log(10 + 100 + 1000))
    assert prompt_information(1, 7, eps=1.0, shorter=True) == pytest.approx(math.log(7))
    assert prompt_information(2, 3000, eps=1.0, shorter=True) == pytest.approx(3001 * math.log(2))


def test_a_target_does_not_depend_on_its_company_or_order():
    rng = np.random.default_rng(12)
    p = random_ps(rng, 300)
    together = floors(p, 40.0)
    assert together == pytest.approx(np.concatenate([floors(each, 40.0) for each in p]), abs=1e-12)
    assert together == pytest.approx(floors(p[:, rng.permutation(300)], 40.0), abs=1e-9)


@pytest.mark.parametrize(
    ("vocab", "length", "wanted"),
    [
        (49152, 5, {2: 0.75, 3: 1.51, 4: 2.35, 5: 2.37, 6: 2.92, 7: 2.57, 8: 2.11, 9: 1.58}),
        (49152, 20, {2: 0.13, 3: 0.32, 4: 0.97, 5: 1.34, 6: 1.92, 7: 1.88, 8: 1.65, 9: 1.34}),
        (4096, 5, {2: 0.38, 3: 0.60, 4: 1.24, 5: 0.94, 6: 1.30, 7: 0.86, 8: 0.25}),
    ],
)
def test_values_of_gaussian_logits_are_those_that_were_worked_out_before(vocab, length, wanted):
    draws = 10
    entropies = torch.tensor([float(h) for h in wanted])
    generator = torch.Generator().manual_seed(13)
    logits = torch.randn(draws, vocab, generator=generator).repeat_interleave(len(wanted), 0)
    p = temperature_for_entropy(logits, entropies.repeat(draws)).double().softmax(-1)
    found = floors(p, prompt_information(vocab, length)).reshape(draws, -1)
    low, high = found.min(0), found.max(0)
    for value, least, most in zip(wanted.values(), low, high, strict=True):
        assert least - 0.2 * value <= value <= most + 0.2 * value
