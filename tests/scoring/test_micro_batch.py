"""Work in parts, halved when the memory runs out."""

import logging

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.scoring import MicroBatch, is_out_of_memory

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)."
    ),
]
EACH_ERROR = pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "python", "cpu", "mps"])


class Worker:
    """Takes at most ``room`` rows at once, keeps what it has done and all part sizes it was asked for."""

    def __init__(self, room, error=OUT_OF_MEMORY[0]):
        self.room, self.error = room, error
        self.done, self.asked, self.restarts = [], [], 0

    def work(self, rows):
        self.asked.append(len(rows))
        if len(rows) > self.room:
            raise self.error
        self.done += rows.tolist()

    def restart(self):
        self.restarts += 1
        self.done.clear()


def run(worker, rows, batch=None):
    batch = batch or MicroBatch()
    batch.run(worker.work, torch.as_tensor(rows), worker.restart)
    return batch


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_all_rows_at_once_where_they_fit(count):
    worker = Worker(room=16)
    batch = run(worker, range(count))
    assert worker.asked == [count]
    assert worker.done == list(range(count))
    assert worker.restarts == 0
    assert batch.size is None


@EACH_ERROR
def test_halves_until_it_fits(error):
    worker = Worker(room=5, error=error)
    batch = run(worker, range(16))
    assert worker.asked == [16, 8, 4, 4, 4, 4]
    assert worker.restarts == 2
    assert batch.size == 4


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 33])
@pytest.mark.parametrize("room", [1, 2, 3, 5, 20])
def test_every_row_is_done_once_in_order(count, room):
    worker = Worker(room)
    run(worker, range(count))
    assert worker.done == list(range(count))
    assert max(worker.asked[-1:]) <= room


def test_rows_are_handed_on_as_they_are():
    worker = Worker(room=2)
    run(worker, [9, 3, 7, 1])
    assert worker.done == [9, 3, 7, 1]


def test_remembers_its_size():
    worker = Worker(room=4)
    batch = run(worker, range(16))
    worker.asked.clear()
    worker.restart()
    run(worker, range(10), batch)
    assert worker.asked == [4, 4, 2]
    assert worker.restarts == 3  # the one above and the two of the first run


def test_halves_further_where_later_work_needs_more():
    worker = Worker(room=8)
    batch = run(worker, range(16))
    worker.room, worker.restarts = 3, 0
    worker.restart()
    run(worker, range(16), batch)
    assert batch.size == 2
    assert worker.done == list(range(16))


def test_the_size_is_halved_from_what_failed_not_from_what_was_allowed():
    batch = MicroBatch()
    batch.size = 64
    worker = Worker(room=2)
    run(worker, range(6), batch)
    assert worker.asked == [6, 3, 1, 1, 1, 1, 1, 1]


def test_what_a_failed_try_has_done_is_dropped():
    worker = Worker(room=8)
    failing = iter([False, True])

    def work(rows):
        if next(failing, False):
            raise OUT_OF_MEMORY[0]
        worker.work(rows)

    batch = MicroBatch()
    batch.size = 4
    batch.run(work, torch.arange(8), worker.restart)
    assert worker.restarts == 1
    assert worker.done == list(range(8))
    assert batch.size == 2


@EACH_ERROR
@pytest.mark.parametrize("count", [1, 8])
def test_a_single_row_that_does_not_fit_is_an_input_error(error, count):
    worker = Worker(room=0, error=error)
    with pytest.raises(InputError, match="out of memory with a single prompt") as raised:
        run(worker, range(count))
    assert worker.asked[-1] == 1
    assert "\n" not in str(raised.value)


def test_the_failed_trys_tensors_are_not_kept_alive():
    import gc
    import weakref

    alive = []

    class Held:
        pass

    def work(rows):
        held = Held()
        alive.append(weakref.ref(held))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def restart():
        gc.collect()
        assert alive[-1]() is None

    MicroBatch().run(work, torch.arange(4), restart)
    assert len(alive) == 6


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("x"), KeyError("memory"), KeyboardInterrupt()]
)
def test_other_errors_pass_through(error):
    worker = Worker(room=0, error=error)
    batch = MicroBatch()
    with pytest.raises(type(error)) as raised:
        run(worker, range(8), batch)
    assert raised.value is error
    assert worker.asked == [8]
    assert worker.restarts == 0
    assert batch.size is None


def test_says_that_it_goes_on_with_less(caplog):
    with caplog.at_level(logging.WARNING):
        run(Worker(room=4), range(8))
    assert [r.getMessage() for r in caplog.records] == ["out of memory with 8 prompts at once; going on with 4 at once"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [*((e, True) for e in OUT_OF_MEMORY), (RuntimeError("mat1 and mat2"), False), (ValueError(), False)],
)
def test_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected
