"""Folders of files under way are held by who writes them, and swept once nobody does."""

import subprocess
import sys

import pytest

from lit_prompt.files import write_whole
from lit_prompt.under_way import under_way

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
