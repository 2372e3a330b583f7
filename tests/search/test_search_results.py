"""The bank of results."""

import io

import pytest
import torch

from lit_prompt.search import BestSoFar, SearchResults, StopReason

LENGTH, WIDTH = 2, 3


def chunk(targets, restarts, seed=0, spare=0):
    """A finished chunk with a known value in every slot; spare slots belong to no target."""
    slots = targets * restarts + spare
    generator = torch.Generator().manual_seed(seed)
    best = BestSoFar(torch.zeros(slots, LENGTH, WIDTH), 0.0, None)
    prompts = torch.randn(slots, LENGTH, WIDTH, generator=generator)
    best.observe(torch.rand(slots, generator=generator) + 0.1, prompts, torch.ones(slots, dtype=torch.long))
    best.steps = torch.arange(slots) + 1
    best.forward_passes = torch.arange(slots) * 10
    best.seconds = torch.arange(slots, dtype=torch.float32) / 8
    best.finish()
    return best


def test_an_empty_bank_has_no_result():
    bank = SearchResults(3, 2, (LENGTH, WIDTH))
    assert bank.kl.shape == (3, 2)
    assert bank.prompts.shape == (3, 2, LENGTH, WIDTH)
    assert bank.searched.tolist() == [False] * 3
    assert (bank.reason == StopReason.NOT_SEARCHED).all()


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("index", [[0, 1], [3, 1], [4]])
def test_put_stores_the_restarts_of_a_target_side_by_side(index, restarts):
    bank, best = SearchResults(5, restarts, (LENGTH, WIDTH)), chunk(len(index), restarts)
    bank.put(index, best)
    for position, target in enumerate(index):
        slots = slice(position * restarts, (position + 1) * restarts)
        assert torch.equal(bank.kl[target], best.kl[slots])
        assert torch.equal(bank.prompts[target], best.prompts[slots])
        assert torch.equal(bank.reason[target], best.reason[slots])
        assert bank.steps[target] == best.steps[slots].sum()
        assert bank.forward_passes[target] == best.forward_passes[slots].sum()
        assert bank.seconds[target] == best.seconds[slots].sum()
    others = [t for t in range(5) if t not in index]
    assert bank.searched.tolist() == [t in index for t in range(5)]
    assert (bank.kl[others] == torch.inf).all()
    assert (bank.steps[others] == 0).all()
    assert (bank.reason[others] == StopReason.NOT_SEARCHED).all()


def test_spare_slots_of_a_short_chunk_are_dropped():
    bank, best = SearchResults(3, 2, (LENGTH, WIDTH)), chunk(1, 2, spare=4)
    bank.put([2], best)
    assert torch.equal(bank.kl[2], best.kl[:2])
    assert bank.steps[2] == 3


def test_chunks_add_up():
    bank = SearchResults(4, 2, (LENGTH, WIDTH))
    first, second = chunk(2, 2, seed=1), chunk(2, 2, seed=2)
    bank.put([0, 1], first)
    bank.put([2, 3], second)
    assert torch.equal(bank.kl.flatten(), torch.cat([first.kl, second.kl]))
    assert torch.equal(bank.prompts.flatten(0, 1), torch.cat([first.prompts, second.prompts]))
    assert bank.searched.all()


def test_a_later_state_of_a_chunk_takes_the_place_of_the_earlier():
    bank, later = SearchResults(2, 2, (LENGTH, WIDTH)), chunk(2, 2, seed=2)
    bank.put([0, 1], chunk(2, 2, seed=1))
    bank.put([0, 1], later)
    assert torch.equal(bank.kl.flatten(), later.kl)
    assert bank.steps.tolist() == [3, 7]  # not added twice


def test_what_was_put_does_not_change_with_the_search():
    bank, best = SearchResults(2, 1, (LENGTH, WIDTH)), chunk(2, 1)
    bank.put([0, 1], best)
    kl = bank.kl.clone()
    best.kl.zero_()
    best.prompts.zero_()
    assert torch.equal(bank.kl, kl)
    assert bank.prompts.abs().sum() > 0


def test_a_target_is_searched_once_any_restart_has_a_result():
    bank, best = SearchResults(2, 2, (LENGTH, WIDTH)), chunk(2, 2)
    best.kl = torch.tensor([torch.inf, 1.0, torch.inf, torch.inf])
    bank.put([0, 1], best)
    assert bank.searched.tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.long])
def test_round_trip_through_a_file(dtype):
    bank = SearchResults(3, 2, (LENGTH, WIDTH), dtype)
    best = chunk(2, 2)
    best.prompts = (best.prompts * 10).to(dtype)
    bank.put([2, 0], best)
    buffer = io.BytesIO()
    torch.save(bank.state_dict(), buffer)
    buffer.seek(0)
    other = SearchResults.from_state_dict(torch.load(buffer, weights_only=True))
    for name, value in bank.state_dict().items():
        loaded = getattr(other, name)
        assert loaded.dtype == value.dtype, name
        assert torch.equal(loaded, value), name


def test_a_loaded_bank_is_its_own():
    bank = SearchResults(2, 1, (LENGTH, WIDTH))
    other = SearchResults.from_state_dict(bank.state_dict())
    other.put([0, 1], chunk(2, 1))
    assert not bank.searched.any()


def test_prompts_of_token_ids():
    bank = SearchResults(2, 1, (5,), torch.long)
    best = BestSoFar(torch.zeros(2, 5, dtype=torch.long), 0.0, None)
    best.observe(torch.tensor([1.0, 2.0]), torch.arange(10).view(2, 5), torch.ones(2, dtype=torch.long))
    bank.put([1, 0], best)
    assert bank.prompts[:, 0].tolist() == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
