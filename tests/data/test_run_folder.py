"""A run's folder: its own, however many start together, and known to all parts of its trainer."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_prompt.data.run_folder import RunFolder, claim_run_folder, run_folder


def test_versions_rise_and_are_never_used_again(tmp_path):
    assert [claim_run_folder(tmp_path / "a").name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (tmp_path / "a" / "version_1").rmdir()
    (tmp_path / "a" / "version_12").touch()  # a file is in the way
    (tmp_path / "a" / "version_x").mkdir()
    assert claim_run_folder(tmp_path / "a").name == "version_13"


def test_threads_that_start_together_get_a_folder_each(tmp_path):
    together = Barrier(8)

    def claim(number: int) -> list[str]:
        found = []
        for round_ in range(40):
            together.wait()
            found.append(claim_run_folder(tmp_path / str(round_)).name)
        return found

    with ThreadPoolExecutor(8) as pool:
        for names in zip(*pool.map(claim, range(8)), strict=True):
            assert sorted(names) == [f"version_{k}" for k in range(8)]


def _claim(runs, start, queue):
    start.wait()
    queue.put([claim_run_folder(runs).name for _ in range(25)])


def test_processes_that_start_together_get_a_folder_each(tmp_path):
    context = get_context("fork")
    start, queue = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_claim, args=(tmp_path, start, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    names = [name for _ in processes for name in queue.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(names) == sorted(f"version_{k}" for k in range(75))


@pytest.mark.parametrize("above", ["file", "link"])
def test_what_stands_in_the_way_is_an_error(tmp_path, above):
    way = tmp_path / "runs"
    way.touch() if above == "file" else way.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="runs"):
        claim_run_folder(way / "demo")


def test_whatever_the_logger(tmp_path):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    for logger in (False, CSVLogger(tmp_path / "csv")):
        assert (
            run_folder(L.Trainer(logger=logger, callbacks=[RunFolder(tmp_path / "run")], **quiet)) == tmp_path / "run"
        )
    assert run_folder(L.Trainer(logger=False, **quiet)) is None
    assert run_folder(L.Trainer(logger=CSVLogger(tmp_path, "a", 3), **quiet)) == tmp_path / "a" / "version_3"
