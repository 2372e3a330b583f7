"""Leases are held by one process at a time, and are free once it is gone."""

import json
import os
import subprocess
import sys

import pytest

from lit_prompt import leases as module
from lit_prompt.leases import Leases

_HOLD = """
import pathlib, sys
from lit_prompt.leases import Leases
leases = Leases(pathlib.Path(sys.argv[1]))
print(leases.take("part"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "leases"


@pytest.fixture
def holder(folder):
    """A process that has taken a lease."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def elsewhere(monkeypatch):
    """From here on this process is on another machine than before."""
    monkeypatch.setattr(module, "_here", lambda: {"host": "another"})


def untouched(path, seconds):
    """Lets a file look as if it was touched so long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_lease_is_taken_once(folder):
    one, other = Leases(folder), Leases(folder)
    assert one.take("part")
    assert one.take("part")
    assert not other.take("part")
    assert one.is_held("part")
    assert other.is_held("part")
    assert other.take("another")
    assert [*sorted(path.name for path in folder.iterdir())] == ["another.lease", "part.lease"]
    one.give_back("part")
    assert not one.is_held("part")
    assert other.take("part")


def test_what_is_asked_for_is_not_kept(folder):
    leases = Leases(folder)
    assert not leases.is_held("part")
    assert not [*folder.iterdir()]


def test_a_close_leaves_nothing(folder):
    one, other = Leases(folder), Leases(folder)
    one.take("part")
    other.take("another")
    one.close()
    assert [path.name for path in folder.iterdir()] == ["another.lease"]
    other.close()
    assert not folder.exists()


def test_another_process_holds_its_lease_until_it_ends(folder, holder):
    leases = Leases(folder)
    assert not leases.take("part")
    untouched(folder / "part.lease", 10 * module._LIFE)  # it may be suspended: here the lock tells
    assert not leases.take("part")
    holder.stdin.close()
    assert holder.wait() == 0
    assert not folder.exists()
    assert leases.take("part")


def test_a_lease_of_a_killed_process_is_free_at_once(folder, holder):
    holder.kill()
    holder.wait()
    assert (folder / "part.lease").exists()
    leases = Leases(folder)
    assert leases.take("part")
    assert not Leases(folder).take("part")
    assert [path.name for path in folder.iterdir()] == ["part.lease"]


def test_a_lease_on_another_machine_is_held_while_it_is_touched(folder, holder, monkeypatch):
    holder.kill()
    holder.wait()
    elsewhere(monkeypatch)
    leases, path = Leases(folder), folder / "part.lease"
    untouched(path, 0.5 * module._LIFE)
    assert not leases.take("part")
    untouched(path, module._LIFE)
    assert leases.take("part")
    assert json.loads(path.read_text()) == {"host": "another"}
    assert [path.name for path in folder.iterdir()] == ["part.lease"]


def test_the_clock_is_that_of_the_file_system(folder, holder, monkeypatch):
    elsewhere(monkeypatch)
    path = folder / "part.lease"
    written = path.stat().st_mtime
    monkeypatch.setattr(module.Path, "touch", lambda clock: (clock.write_text(""), os.utime(clock, (0, written + 500))))
    assert Leases(folder).take("part")


def test_signs_of_life_keep_a_lease(folder, monkeypatch):
    monkeypatch.setattr(module, "_BEAT", 0.01)
    leases, path = Leases(folder), folder / "part.lease"
    leases.take("part")
    now = path.stat().st_mtime
    untouched(path, 10 * module._LIFE)
    while path.stat().st_mtime < now:  # the test's own limit ends this
        pass
    elsewhere(monkeypatch)
    assert not Leases(folder).take("part")


def test_a_lease_that_was_taken_meanwhile_is_not_given_back(folder, monkeypatch):
    slow = Leases(folder)
    slow.take("part")
    untouched(folder / "part.lease", 2 * module._LIFE)
    elsewhere(monkeypatch)
    new = Leases(folder)
    assert new.take("part")
    slow.give_back("part")
    assert (folder / "part.lease").exists()
    assert not Leases(folder).take("part")
    slow.close()
    assert json.loads((folder / "part.lease").read_text()) == {"host": "another"}


def test_a_damaged_lease_is_held_until_it_is_old(folder):
    folder.mkdir()
    path = folder / "part.lease"
    path.write_bytes(b"\xff{")
    assert not Leases(folder).take("part")
    untouched(path, 2 * module._LIFE)
    assert Leases(folder).take("part")


def refused(*args):
    raise OSError(38, "Function not implemented")


def test_a_file_system_without_hard_links(folder, holder, monkeypatch):
    monkeypatch.setattr(module.os, "link", refused)
    one, other = Leases(folder), Leases(folder)
    assert not one.take("part")
    assert one.take("another")
    assert not other.take("another")
    assert [*sorted(path.name for path in folder.iterdir())] == ["another.lease", "part.lease"]
    one.give_back("another")
    assert other.take("another")


def test_a_file_system_without_locks(folder, monkeypatch):
    monkeypatch.setattr(module.fcntl, "flock", refused)
    one, other = Leases(folder), Leases(folder)
    assert one.take("part")
    assert not other.take("part")
    untouched(folder / "part.lease", 2 * module._LIFE)
    assert other.take("part")
    one.give_back("part")
    assert (folder / "part.lease").exists()


COME_AND_GO = """
import sys
from pathlib import Path
from lit_prompt.leases import Leases
for _ in range(300):
    leases = Leases(Path("leases"))
    assert leases.take(sys.argv[1])
    leases.close()
"""


def test_a_folder_that_goes_with_its_last_lease_is_made_again(tmp_path):
    """Each process removes the folder when it is empty, while another is about to write into it."""
    started = [subprocess.Popen([sys.executable, "-c", COME_AND_GO, name], cwd=tmp_path) for name in "abc"]
    assert [process.wait(120) for process in started] == [0, 0, 0]
