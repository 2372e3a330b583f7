"""The set of visited sequences, against a Python set."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.search.visited import Visited

BATCHES = st.lists(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12), min_size=1, max_size=5)


def empty(length=3):
    return Visited(length, torch.zeros(0, dtype=torch.long))


@settings(deadline=None, max_examples=100)
@given(batches=BATCHES)
def test_new_ones_are_those_that_a_set_does_not_hold_in_their_order(batches):
    visited, seen = empty(), set()
    for batch in batches:
        expected = [i for i, own in enumerate(batch) if own not in seen and own not in batch[:i]]
        known = [own in seen for own in batch]
        assert visited.known(torch.tensor(batch)).tolist() == known
        assert visited.new(torch.tensor(batch)).tolist() == expected
        seen |= set(batch)
        assert len(visited.hashes) == len(seen)
        # the hashes are all that a checkpoint keeps
        visited = Visited(3, visited.hashes.clone())


def test_no_two_of_a_million_sequences_look_alike():
    ids = torch.cartesian_prod(*[torch.arange(100)] * 3)
    visited = empty()
    assert visited.new(ids).equal(torch.arange(len(ids)))
    assert not len(visited.new(ids.flip(0)))
    # order and place matter
    assert len(empty().new(torch.tensor([[1, 2, 3], [3, 2, 1], [2, 1, 3], [0, 0, 1], [0, 1, 0]]))) == 5


def test_knowing_remembers_nothing():
    visited = empty()
    assert not visited.known(torch.ones(2, 3, dtype=torch.long)).any()
    assert visited.new(torch.ones(2, 3, dtype=torch.long)).tolist() == [0]
