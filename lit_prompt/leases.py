"""Leases: which process does which part of a work that several share in a folder; they run out when one is killed."""

import contextlib
import json
import os
import platform
import secrets
import weakref
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: a lease of a killed process is free when it has run out
    fcntl = None  # type: ignore[assignment]

#: Seconds between two signs of life of a process, and without one until its leases are free on other machines.
_BEAT, _LIFE = 10.0, 120.0
_SUFFIX = ".lease"
_TRIES = 20


class Leases:
    """Leases of this process in a folder, each a file that its process keeps locked and touches.

    On the machine of a process that was killed its leases are free at once, as the lock is; elsewhere, where a lock may
    mean nothing, when they were not touched for two minutes by the clock of the file system. A process that was
    suspended for longer finds its lease taken: whoever uses these must bear that a part is done twice.

    Args:
        folder: where they are kept; all processes name the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}  # descriptors of the files
        self._ended = Event()
        self._lives = False
        self._close = weakref.finalize(self, _close, folder, self._held, self._ended)

    def take(self, name: str) -> bool:
        """Takes a lease, unless another process holds it."""
        if name in self._held:
            return True
        path = self._path(name)
        for _ in range(_TRIES):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                found = _made(path)
            except (FileExistsError, FileNotFoundError):  # another process removes the folder, as it has no lease left
                continue
            if found is not None:
                self._held[name] = found
                self._live()
                return True
            if not _freed(path):
                return False
        return False

    def is_held(self, name: str) -> bool:
        """Whether a process, this one or another, holds a lease."""
        if name in self._held:
            return True
        if self.take(name):
            self.give_back(name)
            return False
        return True

    def give_back(self, name: str) -> None:
        """Ends a lease."""
        if (found := self._held.pop(name, None)) is not None:
            _give_back(self._path(name), found)

    def close(self) -> None:
        """Ends all of them, for good; the end of the process does so, too."""
        self._close()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _live(self) -> None:
        """Gives signs of life from a thread of its own."""
        if not self._lives:
            self._lives = True
            Thread(target=_beat, args=(weakref.ref(self), self._ended), daemon=True).start()

    def _touch(self) -> None:
        for name in list(self._held):
            found = self._held.get(name)
            with contextlib.suppress(OSError):  # now, as the file system knows it; not the file of one that took it
                os.utime(found if found is not None and os.utime in os.supports_fd else self._path(name))


def _beat(leases: "weakref.ref[Leases]", ended: Event) -> None:
    while not ended.wait(_BEAT):
        if (found := leases()) is None:
            return
        found._touch()
        del found


def _give_back(path: Path, found: int) -> None:
    with contextlib.suppress(OSError):  # another process may have it by now
        if os.path.samestat(os.fstat(found), path.stat()):
            path.unlink()
    os.close(found)


def _close(folder: Path, held: dict[str, int], ended: Event) -> None:
    """Ends all leases of a process that ends, or needs them no more."""
    ended.set()
    while held:
        name, found = held.popitem()
        _give_back(folder / f"{name}{_SUFFIX}", found)
    with contextlib.suppress(OSError):  # others may have some, or had
        folder.rmdir()


def _made(path: Path) -> int | None:
    """Makes a lease's file, locked before it appears; its descriptor, or None where there is one."""
    if path.exists():
        return None
    staging = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    found = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _lock(found)
        os.write(found, json.dumps(_here()).encode())
        try:
            os.link(staging, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            os.replace(staging, path)
    except FileExistsError:
        os.close(found)
        return None
    except BaseException:
        os.close(found)
        raise
    finally:
        staging.unlink(missing_ok=True)
    return found


def _freed(path: Path) -> bool:
    """Removes the file of a lease that has run out; whether there is none any more."""
    try:
        found = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        if not _has_run_out(found, path):
            return False
        aside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        os.rename(path, aside)
        if os.path.samestat(os.fstat(found), aside.stat()):
            aside.unlink()
            return True
        os.rename(aside, path)  # another process was faster, and this is its new lease
        return False
    except FileNotFoundError:
        return True
    finally:
        os.close(found)


def _has_run_out(found: int, path: Path) -> bool:
    try:
        owner: Any = json.loads(os.pread(found, 1000, 0) if hasattr(os, "pread") else os.read(found, 1000))
    except ValueError:
        owner = None  # it appears at this moment, or is damaged
    if owner == _here() and fcntl is not None:
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
        else:
            return True
    return _clock(path.parent) - os.fstat(found).st_mtime > _LIFE


def _clock(folder: Path) -> float:
    """The time as the file system knows it, which writes it into its files."""
    path = folder / f".clock-{secrets.token_hex(8)}"
    path.touch()
    try:
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def _lock(found: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)


@cache
def _here() -> dict[str, str]:
    """What tells a machine, since it was started, from others."""
    with contextlib.suppress(OSError):
        return {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "host": platform.node()}
    return {"host": platform.node()}
