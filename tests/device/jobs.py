"""Searches and commands in the order of a list, and how each ended; run as a module, they find the simulated device.

python -m tests.device.jobs JOBS.json ENDED.json
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.figure import Figure

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.main import main
from tests.device.searches import search


@dataclass(frozen=True)
class Job:
    """A search or a command.

    Attributes:
        name: of the job.
        folder: where it is called.
        args: command and options; or those of :func:`search`.
        is_search: whether it is a search.
        float64: whether the device has float64.
        interrupt_at: step at whose end the user presses Ctrl-C.
    """

    name: str
    folder: str
    args: list[str]
    is_search: bool = False
    float64: bool = True
    interrupt_at: int | None = None

    def run(self) -> dict[str, Any]:
        """Runs it in this process.

        Returns:
            ``code``: exit code, None after a traceback; ``said``: all that was printed; ``columns`` of a search.
        """
        said, before = io.StringIO(), Path.cwd()
        ended: dict[str, Any] = {"code": 0}
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _interrupted(self.interrupt_at):
                if self.is_search:
                    name, root, *rest = self.args
                    ended["columns"] = search(name, Path(root), *rest)
                else:
                    # pictures are drawn on the CPU whatever the device, and take longer than all else
                    with mock.patch.object(Figure, "draw"):
                        main(self.args)
        except SystemExit as stop:
            ended["code"] = int(stop.code or 0)
        except BaseException:
            said.write(traceback.format_exc())
            ended["code"] = None
        finally:
            os.chdir(before)
        return ended | {"said": said.getvalue()}


@contextlib.contextmanager
def _interrupted(step: int | None) -> Iterator[None]:
    save = SearchCheckpoint.on_train_batch_end

    def press(self: SearchCheckpoint, trainer: Any, *args: Any) -> None:
        if step is not None and trainer.lightning_module.chunks.step == step:
            signal.raise_signal(signal.SIGINT)
        save(self, trainer, *args)

    with mock.patch.object(SearchCheckpoint, "on_train_batch_end", press):
        yield


def run_on_device(jobs: Sequence[Job], folder: Path, timeout: float) -> dict[str, dict[str, Any]]:
    """Runs jobs one after another in a process that has the device.

    Returns:
        By name, how each ended, with ``operations`` on the device and ``waits`` for it.
    """
    file, ended = folder / "jobs.json", folder / "ended.json"
    file.write_text(json.dumps([asdict(job) for job in jobs]))
    process = subprocess.run([sys.executable, "-m", "tests.device.jobs", str(file), str(ended)], capture_output=True,
                             text=True, timeout=timeout, cwd=Path(__file__).parents[2])  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(ended.read_text())


if __name__ == "__main__":
    from tests.device import pretend

    pretend.register()
    ended = {}
    for job in (Job(**each) for each in json.loads(Path(sys.argv[1]).read_text())):
        pretend.allow_float64(job.float64)
        before = pretend.counts()
        how, after = job.run(), pretend.counts()
        ended[job.name] = how | {
            "operations": after.operations - before.operations, "waits": after.waits - before.waits
        }  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps(ended))
