"""Replacements of tokens in prompts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.functional.swaps import best_swaps, sample_blocks, sample_swaps, scheduled_swaps

SIZES = {"prompts": st.integers(1, 3), "length": st.integers(1, 6), "tokens": st.integers(1, 9)}


def generators(prompts, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(prompts)]


@settings(deadline=None, max_examples=40)
@given(**SIZES, k=st.integers(1, 12), seed=st.integers(0, 99))
def test_best_swaps_against_sorting(prompts, length, tokens, k, seed):
    change = torch.randn(prompts, length, tokens, generator=torch.Generator().manual_seed(seed))
    current = torch.randint(-1, tokens, (prompts, length), generator=torch.Generator().manual_seed(seed))
    found = best_swaps(change, current, k)
    assert found.shape == (prompts, length, min(k, max(tokens - 1, 1)))
    for p in range(prompts):
        for place in range(length):
            order = sorted(range(tokens), key=lambda token: change[p, place, token])
            others = [token for token in order if token != current[p, place]] or order
            assert found[p, place].tolist() == others[: found.shape[2]]


@settings(deadline=None, max_examples=40)
@given(**SIZES, width=st.integers(1, 20), swaps=st.integers(1, 8), seed=st.integers(0, 99))
def test_sampled_swaps_change_so_many_places_to_what_may_stand_there(prompts, length, tokens, width, swaps, seed):
    ids = torch.zeros(prompts, length, dtype=torch.long)
    # every choice tells its prompt and position
    choices = torch.arange(1, prompts * length * tokens + 1).view(prompts, length, tokens)
    found = sample_swaps(ids, choices, width, swaps, generators(prompts, seed))
    assert found.shape == (prompts, width, length)
    changed = found != 0
    assert (changed.sum(2) == min(swaps, length)).all()
    allowed = (found.unsqueeze(3) == choices.unsqueeze(1)).any(3)
    assert (allowed | ~changed).all()
    # a prompt's candidates follow from its own generator
    alone = sample_swaps(ids[-1:], choices[-1:], width, swaps, generators(1, seed + prompts - 1))
    assert alone[0].equal(found[-1])


@settings(deadline=None, max_examples=40)
@given(**SIZES, width=st.integers(1, 20), swaps=st.integers(1, 8), seed=st.integers(0, 99))
def test_sampled_blocks_change_neighbours(prompts, length, tokens, width, swaps, seed):
    ids, allowed = torch.zeros(prompts, length, dtype=torch.long), torch.arange(5, 5 + tokens)
    found = sample_blocks(ids, allowed, width, swaps, generators(prompts, seed))
    assert found.shape == (prompts, width, length)
    for candidate in found.flatten(0, 1):
        places = candidate.nonzero().flatten().tolist()
        assert places == list(range(places[0], places[0] + min(swaps, length)))
        assert torch.isin(candidate[places], allowed).all()


def test_every_place_and_token_is_drawn():
    ids = torch.zeros(1, 3, dtype=torch.long)
    for found in (
        sample_swaps(ids, torch.tensor([1, 2]).expand(1, 3, 2), 200, 1, generators(1))[0],
        sample_blocks(ids, torch.tensor([1, 2]), 200, 1, generators(1))[0],
    ):
        assert {tuple(own) for own in found.tolist()} == {
            (1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2)
        }  # fmt: skip


@pytest.mark.parametrize(("first", "last"), [(4, 1), (1, 1), (7, 2)])
def test_scheduled_swaps_fall_and_stay(first, last):
    values = [scheduled_swaps(step, first, last, 10) for step in range(15)]
    assert values[0] == first
    assert values == sorted(values, reverse=True)
    assert set(values[10:]) == {last}
