"""Work in parts that several processes do side by side."""

import pytest

from lit_prompt.leases import Leases
from lit_prompt.shared_work import SharedWork


@pytest.fixture
def finished():
    """The parts that are done, by whoever."""
    return set()


@pytest.fixture
def worker(tmp_path, finished):
    """Makes one of several processes, with its own leases."""

    def make(*order):
        return SharedWork(Leases(tmp_path / "leases"), "part", order, finished.__contains__, set(finished))

    return make


def test_one_does_all_in_its_order(worker, finished):
    finished.add(1)
    work, done = worker(3, 1, 0, 2), []
    assert work.left == 3
    while (part := work.next()) is not None:
        done.append(part)
        finished.add(part)
    assert (done, work.left) == ([3, 0, 2], 0)


def test_two_share_what_there_is(worker, finished):
    one, other = worker(0, 2, 3, 1), worker(1, 3, 2, 0)
    assert (one.next(), other.next()) == (0, 1)
    finished.add(0)
    assert one.next() == 2
    finished.add(2)
    assert one.next() == 3
    finished.add(3)
    assert one.next() is None
    assert one.left == 1  # the other has it
    finished.add(1)
    assert other.next() is None
    assert other.left == 0
    assert one.next() is None
    assert one.left == 0


def test_what_another_lets_go_of_unfinished_is_done(worker, finished):
    one, other = worker(0), worker(0)
    assert other.next() == 0
    assert one.next() is None
    other.leave()
    assert one.next() == 0
    assert other.next() is None


def test_what_another_has_finished_at_this_moment_is_not_done_again(worker, finished, tmp_path, monkeypatch):
    work = worker(0, 1)
    take = Leases.take

    def late(leases, name):
        if name == "part_0":
            finished.add(0)  # between the question whether it is finished and its lease
        return take(leases, name)

    monkeypatch.setattr(Leases, "take", late)
    assert work.next() == 1
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["part_1.lease"]
