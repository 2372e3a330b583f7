"""Entropies that are hit, row by row."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from lit_prompt.functional import EntropyMatchError, entropy_match, match_entropy, temperature_for_entropy

BOTH = pytest.mark.parametrize("match", [match_entropy, temperature_for_entropy])


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of small operations: threads that wait for one another make them slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_logits(rows, vocab, seed=0):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def grid(vocab, count=7):
    return torch.linspace(0.001, math.log(vocab), count, dtype=torch.float64)


def measured(logits):
    return scipy_entropy(softmax(logits.double().numpy(), axis=-1), axis=-1)


@BOTH
@pytest.mark.parametrize("vocab", [2, 50, 4096])
def test_entropies_are_hit(match, vocab):
    wanted = grid(vocab)
    assert wanted[-1].item() == math.log(vocab)
    z = match(random_logits(len(wanted), vocab), wanted)
    np.testing.assert_allclose(measured(z), wanted.numpy(), rtol=0, atol=1e-3)


@BOTH
def test_entropy_zero_is_hit(match):
    assert measured(match(random_logits(2, 20), torch.zeros(2))).max() <= 1e-3


def test_temperature_hits_to_a_millionth():
    wanted = grid(4096)
    np.testing.assert_allclose(
        measured(temperature_for_entropy(random_logits(7, 4096), wanted)), wanted.numpy(), rtol=0, atol=1.001e-6
    )


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_tolerance_is_kept(tolerance):
    wanted = torch.linspace(0.2, 3.9, 5, dtype=torch.float64)
    z = match_entropy(random_logits(5, 50), wanted, tolerance=tolerance)
    np.testing.assert_allclose(measured(z), wanted.numpy(), rtol=0, atol=tolerance)


@BOTH
@pytest.mark.parametrize("vocab", [2, 17, 50, 4096])
def test_a_row_does_not_depend_on_its_company(match, vocab):
    z, wanted = random_logits(6, vocab), torch.linspace(0.05, 0.97, 6) * math.log(vocab)
    together = match(z, wanted)
    for rows in [[0], [5], [1, 0], [2, 0, 1], [0, 0, 0, 2]]:
        assert torch.equal(match(z[rows], wanted[rows]), together[rows]), rows


@BOTH
@pytest.mark.parametrize("vocab", [3, 330, 4096])
def test_a_row_does_not_depend_on_the_size_of_blocks(match, vocab, monkeypatch):
    z, wanted = random_logits(7, vocab), torch.linspace(0.97, 0.05, 7) * math.log(vocab)
    whole = match(z, wanted)
    for rows in (1, 2, 3):
        monkeypatch.setattr(entropy_match, "_CACHED_ELEMENTS", rows * vocab)
        assert torch.equal(match(z, wanted), whole), rows


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 400), st.data())
def test_company_never_matters(vocab, data):
    """Rows leave when they have arrived, at steps of their own; elements stand at other places of a block then."""
    count = data.draw(st.integers(1, 6))
    share = st.floats(0.02, 1.0)
    wanted = torch.tensor(data.draw(st.lists(share, min_size=count, max_size=count))) * math.log(vocab)
    z = random_logits(count, vocab, data.draw(st.integers(0, 2**20)))
    together = match_entropy(z, wanted)
    alone = torch.cat([match_entropy(z[i : i + 1], wanted[i : i + 1]) for i in range(count)])
    assert torch.equal(together, alone)
    np.testing.assert_allclose(measured(together), wanted.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("vocab", [2, 3, 10, 1000, 32_000, 128_000])
def test_the_whole_range_is_hit(vocab):
    highest = math.log(vocab) - 1e-4
    shares = torch.linspace(0, 1, 4 if vocab > 5000 else 40, dtype=torch.float64)
    wanted = torch.cat([0.01 + shares * (highest - 0.01), 0.01 + shares**4 * (highest - 0.01)]).unique()
    z = match_entropy(random_logits(len(wanted), vocab), wanted)
    stored = z.double().log_softmax(-1).float()
    np.testing.assert_allclose(measured(stored), wanted.numpy(), rtol=0, atol=1e-3)


def one_at_a_time(logits, wanted):
    """The construction as it is described: autograd, float64, torch's own Adam, then Gauss-Newton."""
    z = logits.double().requires_grad_()
    adam, start = torch.optim.Adam([z], lr=0.1), None
    for adams in (True, False):
        while True:
            h = torch.special.entr(z.softmax(-1)).sum()
            error = h - wanted
            start = torch.sign(error) if start is None else start
            if error.abs() <= (0.02 if adams else 1e-4) or (adams and torch.sign(error) != start):
                break
            if adams:
                adam.zero_grad()
                (error**2).backward()
                adam.step()
            else:
                (gradient,) = torch.autograd.grad(h, z)
                step = error.detach() / gradient.square().sum() * gradient
                z = (z.detach() - step / step.abs().max().clamp_min(1.0)).requires_grad_()
    return z.detach()


@pytest.mark.parametrize("wanted", [0.3, 1.0, 3.0, 4.0, 5.5])
def test_the_descent_is_the_plain_one(wanted):
    start = random_logits(3, 300, seed=5)
    fast = match_entropy(start, torch.full((3,), wanted))
    for row, logits in zip(fast, start, strict=True):
        apart = (row.double().softmax(-1) - one_at_a_time(logits, wanted).softmax(-1)).abs().sum()
        # where a gradient is nearly zero Adam makes much of its sign, which rounding decides
        assert apart < 0.01


@pytest.mark.parametrize(("match", "wanted"), [(match_entropy, 9.5), (temperature_for_entropy, 8.0)])
def test_a_long_row_does_not_depend_on_its_company(match, wanted):
    torch.set_num_threads(2)  # torch splits the sum of a lone row of this length between threads
    z = random_logits(1, 33_000, seed=3)
    together = match(z.repeat(2, 1), torch.tensor([wanted, 10.0]))
    assert torch.equal(match(z, torch.tensor([wanted]))[0], together[0])


@BOTH
def test_the_input_is_not_modified(match):
    z, wanted = random_logits(4, 50), torch.linspace(0.5, 3.0, 4)
    z_before, wanted_before = z.clone(), wanted.clone()
    result = match(z, wanted)
    assert torch.equal(z, z_before)
    assert torch.equal(wanted, wanted_before)
    assert result.data_ptr() != z.data_ptr()
    assert not result.requires_grad


def test_already_there_is_left_alone():
    z = random_logits(3, 50)
    wanted = torch.from_numpy(measured(z))
    assert torch.equal(match_entropy(z, wanted), z)


@BOTH
@pytest.mark.parametrize("bad", [-0.1, math.log(4) + 0.1, math.nan])
def test_an_unreachable_entropy_raises(match, bad, monkeypatch):
    monkeypatch.setattr(entropy_match, "_ADAM_STEPS", 100)  # none of the 5,000 would help
    with pytest.raises(EntropyMatchError, match="entropy"):
        match(random_logits(2, 4), torch.tensor([1.0, bad]))


def test_the_error_names_the_entropy_that_was_missed(monkeypatch):
    monkeypatch.setattr(entropy_match, "_ADAM_STEPS", 100)
    with pytest.raises(EntropyMatchError, match=r"9\.0000"):
        match_entropy(random_logits(3, 4), torch.tensor([0.5, 9.0, 1.0]))


def test_temperature_cannot_separate_equal_maxima():
    with pytest.raises(EntropyMatchError):
        temperature_for_entropy(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0.3]))


@pytest.mark.parametrize("wanted", [0.01, 1.0, 3.0, 3.9])
def test_temperature_keeps_the_ranking(wanted):
    z = random_logits(3, 50)
    result = temperature_for_entropy(z, torch.full((3,), wanted))
    assert torch.equal(result.argsort(-1), z.argsort(-1))
    # and nothing but a factor
    factor = result / z.double()
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor), rtol=1e-12, atol=0)


@BOTH
def test_other_logits_give_other_distributions(match):
    wanted = torch.tensor([2.0])
    p, q = (match(random_logits(1, 50, seed), wanted).double().softmax(-1) for seed in (0, 1))
    assert (p - q).abs().sum() > 0.5


def test_float32_sums_over_many_tokens_do_not_miss():
    logits = torch.randn(1, 2**18, generator=torch.Generator().manual_seed(0))
    found = match_entropy(logits, torch.tensor([5.97]), tolerance=5e-4)
    assert abs(scipy_entropy(found[0].double().softmax(0)) - 5.97) <= 5e-4
