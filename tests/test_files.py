"""Files that are whole or not there, and names that are free."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from lit_prompt.errors import InputError
from lit_prompt.files import add_file, add_together, replaced_whole


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with replaced_whole(path) as staging:
            assert staging.parents[1] == tmp_path  # a move within a file system is one step
            staging.write_text(text[:3])
            assert not path.exists() or path.read_text() == "first"
            staging.write_text(text)
        assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    def run_out_of_space(path):
        with replaced_whole(path) as staging:
            staging.write_text("half")
            raise OSError("disk full")

    path = tmp_path / "a.txt"
    path.write_text("first")
    for name in ("a.txt", "b.txt"):
        with pytest.raises(OSError, match="disk full"):
            run_out_of_space(tmp_path / name)
    with pytest.raises(FileNotFoundError), replaced_whole(path):
        pass  # nothing was written
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_is_added_takes_no_name_that_exists(tmp_path):
    names = [add_file(tmp_path, "results.parquet", lambda path: path.write_text("x")).name for _ in range(3)]
    assert names == ["results.parquet", "results-1.parquet", "results-2.parquet"]
    assert add_file(tmp_path, "results.png", lambda path: path.write_text("x")).name == "results.png"
    (tmp_path / "results-3.parquet").mkdir()
    assert add_file(tmp_path, "results.parquet", lambda path: path.write_text("x")).name == "results-4.parquet"


def test_files_that_are_added_together_get_a_name_each(tmp_path):
    together = Barrier(8)

    def add(number):
        found = []
        for _ in range(40):
            together.wait()
            found.append(add_file(tmp_path, "results.parquet", lambda path: path.write_text(str(number))))
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(add, range(8)))
    assert len({path for mine in found for path in mine}) == 8 * 40
    assert all(path.read_text() == str(number) for number, mine in enumerate(found) for path in mine)
    assert len([*tmp_path.iterdir()]) == 8 * 40


def test_a_file_that_could_not_be_written_takes_no_name(tmp_path):
    def run_out_of_space(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        add_file(tmp_path, "results.parquet", run_out_of_space)
    assert not [*tmp_path.iterdir()]


def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path):
    def run_out_of_space(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(path):
        assert not [*tmp_path.glob("[!.]*")]  # nothing before all are written
        path.write_text("x")

    with pytest.raises(
        InputError,
        match=r"results\.parquet: the disk is full or limited \(it takes more than 4 bytes, \d+ are",
    ):
        add_together(tmp_path, {"prompts.safetensors": write, "results.parquet": run_out_of_space})
    assert not [*tmp_path.iterdir()]
    added = add_together(tmp_path, {"prompts.safetensors": write, "results.parquet": write})
    assert [path.name for path in added] == ["prompts.safetensors", "results.parquet"]


def test_files_that_cannot_all_be_moved_are_not_added(tmp_path, monkeypatch):
    """On a file system without hard links, too, where a file is moved to a name that it has taken."""
    move, moved = os.replace, []

    def refuse(*paths):
        raise OSError(errno.ENOTSUP, "no hard links")

    def fail_at_second(*paths):
        moved.append(paths)
        if len(moved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        move(*paths)

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", fail_at_second)
    with pytest.raises(InputError, match=r"b\.txt: the disk is full"):
        add_together(tmp_path, {name: lambda path: path.write_text("x") for name in ("a.txt", "b.txt")})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors says it
    ],
    ids=str,
)
def test_a_full_disk_is_known_whoever_says_it(tmp_path, error):
    with (
        pytest.raises(
            InputError,
            match=r"a\.txt: the disk is full or limited \(it takes 7 bytes, \d+ are free\)",
        ),
        replaced_whole(tmp_path / "a.txt", 7),
    ):
        raise error
