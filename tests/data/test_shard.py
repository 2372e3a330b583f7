"""The parts of a work that processes begin with."""

import pytest

from lit_prompt.data.shard import Shard


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_every_process_comes_to_everything_and_begins_with_its_own(count):
    items = range(10)
    for index in range(count):
        order = Shard(index, count).in_order(items)
        assert sorted(order) == list(items)
        assert order[: len(items[index::count])] == list(items[index::count])


def test_processes_whose_parts_are_done_come_to_different_ones():
    orders = [Shard(index, 4).in_order(range(16)) for index in range(4)]
    assert len({order[4] for order in orders}) == 4
