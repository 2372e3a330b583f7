"""The parts of a work that processes begin with."""

import pytest

from lit_prompt.data.shard import Shard
from lit_prompt.errors import InputError


def test_the_third_of_sixteen():
    assert Shard.parse("3/16") == Shard(2, 16)
    assert Shard.parse("1/1") == Shard()


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "3/", "/3", "-1/3", "1/0", "1.5/3", "1/3/5", " 1/3", ""])
def test_no_shard(text):
    with pytest.raises(InputError, match=r"data\.shard is .*must be 1/N to N/N"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_parts_are_all_and_each_once(count):
    items = range(10)
    assert sorted(item for index in range(count) for item in Shard(index, count).of(items)) == [*items]


@pytest.mark.parametrize(("count", "each"), [(2, 3), (3, 2), (1, 4), (4, 1)])
def test_a_part_is_divided_into_parts(count, each):
    for index in range(count):
        shard = Shard(index, count)
        parts = [shard.divided(part, each) for part in range(each)]
        assert sorted(item for part in parts for item in part.of(range(30))) == [*shard.of(range(30))]


def test_a_process_begins_with_its_own_and_takes_the_last_of_others_first():
    assert Shard(0, 2).in_order(range(6)) == [0, 2, 4, 5, 3, 1]
    assert Shard(1, 2).in_order(range(6)) == [1, 3, 5, 4, 2, 0]
    assert Shard(4, 5).in_order(range(3)) == [0, 1, 2]
    assert Shard().in_order(range(3)) == [0, 1, 2]


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
