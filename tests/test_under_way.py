"""Folders of files under way are held by who writes them, and swept once nobody does."""

import subprocess
import sys

import pytest

from lit_prompt.files import write_whole
from lit_prompt.records.arrays import ArrayCache
from lit_prompt.records.floors import FloorCache
from lit_prompt.under_way import opened, under_way

_HOLD = """
import pathlib, sys
from lit_prompt.under_way import under_way
with under_way(pathlib.Path(sys.argv[1])) as folder:
    (folder / "some").write_text("thing")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes in a folder."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_process_writes_is_left_to_it(holder, tmp_path):
    (theirs,) = tmp_path.iterdir()
    write_whole(tmp_path / "mine", b"")
    assert sorted(tmp_path.iterdir()) == [theirs, tmp_path / "mine"]
    holder.communicate("")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_what_a_killed_process_left_is_swept(holder, tmp_path):
    (theirs,) = tmp_path.iterdir()
    holder.kill()
    holder.wait()
    assert theirs.exists()
    write_whole(tmp_path / "mine", b"")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_nothing_else_is_swept(tmp_path):
    names = [".lit_prompt", ".lit_prompt-mine", ".lit_prompt-0123456789abcdef0", "lit_prompt-0123456789abcdef"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".lit_prompt-0123456789abcdef").write_text("a file")
    (tmp_path / ".lit_prompt-1123456789abcdef").symlink_to(tmp_path / ".lit_prompt-mine")
    before = sorted(tmp_path.iterdir())
    with under_way(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == before


_WRITE = """
import pathlib, sys
from lit_prompt import under_way
from lit_prompt.files import write_whole
for _ in range(400):
    under_way._sweep.cache_clear()  # as if each were by a process that has just begun
    write_whole(pathlib.Path(sys.argv[1]) / sys.argv[2], b"mine")
"""


def test_processes_that_write_in_one_folder_leave_each_other_alone(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", _WRITE, str(tmp_path), name]) for name in "abc"]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


_OPEN = """
import pathlib, sys
from lit_prompt.under_way import opened, under_way
run = pathlib.Path(sys.argv[1])
(run / "checkpoints" / "ended").mkdir(parents=True)
with opened(run), under_way(run), under_way(run / "checkpoints"), under_way(run / "checkpoints" / "ended"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    """A run whose process was killed in the middle of everything."""
    run = tmp_path / "version_0"
    command = [sys.executable, "-c", _OPEN, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        _litter_of_a_living_process_is_left(run)
        process.kill()
    assert len(_litter(tmp_path)) == 4
    return run


def _litter(folder):
    return list(folder.rglob(".lit_prompt-*"))


def _litter_of_a_living_process_is_left(run):
    before = _litter(run.parent)
    subprocess.run([sys.executable, "-c", _OPEN, str(run.parent / "version_1")], input="", text=True, check=True)
    assert _litter(run.parent) == before
    assert len(before) == 4


@pytest.mark.parametrize("name", ["version_0", "version_1"])
def test_what_was_killed_is_swept_by_who_opens_it_or_another_beside_it(run, name):
    folder = run.parent / name
    folder.mkdir(exist_ok=True)
    with opened(folder):
        assert _litter(run.parent) == [path for path in run.parent.iterdir() if path.name.startswith(".lit_prompt-")]
        assert len(_litter(run.parent)) == 1  # the note of this process
    assert not _litter(run.parent)


def test_no_note_leads_elsewhere(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    with opened(elsewhere):
        pass
    assert len(_litter(elsewhere)) == 3


def test_a_folder_is_opened_where_nothing_can_be_written_beside_it(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with opened(tmp_path):
        pass


@pytest.mark.parametrize(
    "open_cache", [lambda path: FloorCache(path / "f.parquet"), ArrayCache], ids=["floors", "arrays"]
)
def test_a_cache_that_is_opened_is_swept(holder, tmp_path, open_cache):
    holder.kill()
    holder.wait()
    open_cache(tmp_path)
    assert not [*tmp_path.iterdir()]
