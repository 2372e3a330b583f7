"""Several continuations in a row of a pass: each is what it is alone, in every architecture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.lm import FrozenLM, LMOptions, Packed, load_causal_lm
from lit_prompt.lm.packed import filled
from tests.conftest import ARCHITECTURES, EMBEDDED_GPT2, EMBEDDED_LLAMA
from tests.lm.test_prefix_cache import LENGTH, SLIDING, made, token_ids

CACHED = torch.tensor([3, 0, 0, 4, 2, 1, 3, 3, 0])
BEGIN = torch.tensor([1, 0, 11, 6, 9, 3, 10, 0, 7])


def varied():
    """Five sequences, and nine that begin like one of them."""
    ids = token_ids()
    others = token_ids(10)[1:]
    kept = torch.arange(LENGTH) < BEGIN.unsqueeze(1)
    return ids, torch.where(kept, ids[CACHED], others)


def check(lm, tolerance, padding=0):
    ids, whole = varied()
    mask = (torch.arange(LENGTH) >= padding * (torch.arange(5) % 2).unsqueeze(1)) if padding else None
    begin = BEGIN if mask is None else BEGIN.maximum((~mask).sum(1)[CACHED])
    own = None if mask is None else mask[CACHED]
    packed = Packed.of(whole, begin, CACHED, torch.full((9,), LENGTH), own)
    assert len(packed.ids) < len(whole)
    with torch.no_grad():
        found = lm.features_packed(lm.prefix_cache(ids, mask), packed)
        expected = lm.features(lm.embed(whole), own)[packed.items]
    assert found.dtype == expected.dtype
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gemma2"])
def test_packed_items_are_what_they_are_alone(architecture, padding):
    lm = made(architecture)
    assert lm.takes_packed(LENGTH, padding > 0)
    check(lm, 1e-5, padding)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_the_embedded_lms_with_either_attention(folder, attention):
    lm = FrozenLM(load_causal_lm(str(folder), LMOptions()))
    lm.model.set_attn_implementation(attention)
    assert lm.takes_packed(LENGTH)
    check(lm, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01), (torch.float64, 1e-12)])
def test_dtypes(dtype, tolerance):
    lm = made("llama", dtype)
    assert lm.takes_packed(LENGTH)
    check(lm, tolerance)


@pytest.mark.parametrize("architecture", [name for name in SLIDING if name != "gemma2"])
def test_a_window_shorter_than_the_prompt_is_noticed(architecture):
    assert not made(architecture, **SLIDING[architecture]).takes_packed(LENGTH)


def test_lms_whose_features_are_logits_and_single_tokens_are_not_asked():
    assert not made("gemma2").takes_packed(LENGTH)
    assert not made("llama").takes_packed(1)


SIZES = st.integers(1, 12).flatmap(lambda most: st.tuples(st.just(most), st.lists(st.integers(1, most), max_size=60)))


@settings(deadline=None, max_examples=200)
@given(SIZES)
def test_rows_hold_every_item_once_and_are_few(case):
    capacity, sizes = case
    rows = filled(sizes, capacity)
    assert sorted(item for row in rows for item in row) == list(range(len(sizes)))
    assert all(sum(sizes[item] for item in row) <= capacity for row in rows)
    fills = sorted(sum(sizes[item] for item in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > capacity  # no two rows are one


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=30))
def test_a_row_follows_from_those_that_begin_alike(items):
    cached, begin = (torch.tensor(column) for column in zip(*items, strict=True))
    ids = torch.arange(8 * len(items)).view(-1, 8)
    capacity = torch.full_like(begin, 8)
    packed = Packed.of(ids, begin, cached, capacity)
    for number in cached.unique().tolist():
        mine = (cached == number).nonzero().flatten()
        alone = Packed.of(ids[mine], begin[mine], cached[mine], capacity[mine])
        rows = (packed.cached == number).nonzero().flatten()
        own = (packed.cached[packed.row] == number).nonzero().flatten()
        assert torch.equal(packed.items[own], mine[alone.items])
        assert torch.equal(packed.row[own] - rows[0], alone.row)
        assert torch.equal(packed.end[own], alone.end)
        for name in ("ids", "places", "begin", "sees"):
            assert torch.equal(getattr(packed, name)[rows], getattr(alone, name)), name
