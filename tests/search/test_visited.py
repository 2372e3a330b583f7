"""The set of visited sequences, against a Python set."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.search.visited import Visited

BATCHES = st.lists(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12), min_size=1, max_size=5)


def empty(length=3, owners=1, most=2**20):
    nothing = torch.zeros(0, dtype=torch.long)
    return Visited(length, nothing, torch.zeros(owners, dtype=torch.long), torch.full((owners,), most))


def alone(ids):
    return ids, torch.zeros(len(ids), dtype=torch.long)


@settings(deadline=None, max_examples=100)
@given(batches=BATCHES, most=st.sampled_from([1, 3, 6, 100]))
def test_new_ones_are_those_that_the_last_of_an_owner_do_not_hold_in_their_order(batches, most):
    visited, seen = empty(2, 3, most), {owner: [] for owner in range(3)}
    for batch in batches:
        known = [own[:2] in seen[own[2]] for own in batch]
        expected = [i for i, own in enumerate(batch) if not known[i] and own not in batch[:i]]
        ids, owner = torch.tensor(batch).split([2, 1], 1)
        assert visited.known(ids, owner.flatten()).tolist() == known
        assert visited.new(ids, owner.flatten()).tolist() == expected
        for i in expected:
            seen[batch[i][2]].append(batch[i][:2])
        seen = {owner: own[-most:] for owner, own in seen.items()}
        assert visited.counts.tolist() == [len(own) for own in seen.values()]
        assert len(visited.hashes) == sum(map(len, seen.values()))
        # hashes and counts are all that a checkpoint keeps
        visited = Visited(2, visited.hashes.clone(), visited.counts.clone(), torch.full((3,), most))


def test_no_two_of_a_million_sequences_look_alike():
    ids = torch.cartesian_prod(*[torch.arange(100)] * 3)
    visited = empty()
    assert visited.new(*alone(ids)).equal(torch.arange(len(ids)))
    assert not len(visited.new(*alone(ids.flip(0))))
    # order and place matter
    assert len(empty().new(*alone(torch.tensor([[1, 2, 3], [3, 2, 1], [2, 1, 3], [0, 0, 1], [0, 1, 0]])))) == 5


def test_knowing_remembers_nothing():
    visited, ids = empty(), torch.ones(2, 3, dtype=torch.long)
    assert not visited.known(*alone(ids)).any()
    assert visited.new(*alone(ids)).tolist() == [0]
