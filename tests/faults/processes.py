"""Real processes that begin where Python has imported everything: a tenth of a second in place of six."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
_readers: dict[int, threading.Thread] = {}  # by the process that they listen to


class Processes:
    """Starts ``lit_prompt`` commands, each in a process of its own, forked from one that has imported it."""

    def __enter__(self) -> "Processes":
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._ask("ready") == "yes"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def _ask(self, *question: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(question), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def start(self, *args: object, folder: Path, temporary: Path, log: Path, most: int | None = None) -> int:
        """Starts a command; gives its process's number.

        Args:
            args: what follows ``lit_prompt``.
            folder: its current folder.
            temporary: its folder for temporary files.
            log: file for all that it prints.
            most: bytes that a file may have; a longer one is refused by the system.
        """
        pid: int = self._ask("start", [str(arg) for arg in args], str(folder), str(temporary), str(log), most)
        return pid

    def ended(self, pid: int) -> int | None:
        """How it ended, negative after a signal that killed it; None while it lasts."""
        code: int | None = self._ask("ended", pid)
        return code

    def wait(self, pid: int, most: float = 120) -> int:
        """How it ended.

        Raises:
            TimeoutError: if it has not after so many seconds; it is killed.
        """
        until = time.monotonic() + most
        while (code := self.ended(pid)) is None:
            if time.monotonic() > until:
                os.kill(pid, 9)
                raise TimeoutError(f"process {pid} did not end")
            time.sleep(0.01)
        return code


def _start(args: list[str], folder: str, temporary: str, log: str, most: int | None) -> int:
    reads, writes = os.pipe()  # what is printed is no file, so that no limit on files cuts it
    if pid := os.fork():
        os.close(writes)
        _readers[pid] = threading.Thread(target=_copy, args=(reads, log), daemon=True)
        _readers[pid].start()
        return pid
    os.chdir(folder)
    os.environ["TMPDIR"] = temporary
    for stream in (1, 2):
        os.dup2(writes, stream)
    os.close(writes)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode) for n, mode in ((0, "r"), (1, "w"), (2, "w")))
    sys.argv = ["lit_prompt", *args]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("lit_prompt.__main__")  # what further ones begin with
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    code = 1
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        end_at_once(code)


def _copy(reads: int, log: str) -> None:
    with os.fdopen(reads, "rb") as said, open(log, "wb") as file:
        shutil.copyfileobj(said, file)


def _ended(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        return None
    _readers.pop(pid).join()
    return os.waitstatus_to_exitcode(status)


def _serve() -> None:
    answers = {"ready": lambda: "yes", "start": _start, "ended": _ended}
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(answers[name](*args)), flush=True)


if __name__ == "__main__":
    import traceback

    import lit_prompt.commands.completion
    import lit_prompt.commands.floor
    import lit_prompt.commands.report
    import lit_prompt.commands.shortest
    import lit_prompt.commands.targets_build
    import lit_prompt.commands.targets_show
    import lit_prompt.commands.targets_validate  # noqa: F401
    from lit_prompt.interruption import end_at_once
    from lit_prompt.main import main

    _serve()
