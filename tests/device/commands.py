"""Commands in the order of a list, with how each ended; run as a module, they find the simulated device.

    python -m tests.device.commands JOBS.json ENDED.json
"""

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.main import main


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        name: of the job.
        folder: where it is called.
        args: command and options.
        float64: whether the device has float64.
        interrupt_at: step at whose end the user presses Ctrl-C.
    """

    name: str
    folder: str
    args: list[str]
    float64: bool = True
    interrupt_at: int | None = None


def run(job: Job) -> dict[str, object]:
    """Runs a command in this process; its exit code (None after a traceback) and what it said."""
    said, code = io.StringIO(), 0
    before = Path.cwd()
    os.chdir(job.folder)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _interrupted(job.interrupt_at):
            main(job.args)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        said.write(traceback.format_exc())
        code = None
    finally:
        os.chdir(before)
    return {"code": code, "said": said.getvalue()}


@contextlib.contextmanager
def _interrupted(step: int | None) -> Iterator[None]:
    save = SearchCheckpoint.on_train_batch_end

    def press(self, trainer, *args):
        if trainer.global_step == step:
            signal.raise_signal(signal.SIGINT)
        save(self, trainer, *args)

    with mock.patch.object(SearchCheckpoint, "on_train_batch_end", press):
        yield


def run_on_device(jobs: Sequence[Job], folder: Path, timeout: float) -> dict[str, dict[str, object]]:
    """Runs commands one after another in a process that has the device; how each ended, by its name."""
    import subprocess

    file, ended = folder / "jobs.json", folder / "ended.json"
    file.write_text(json.dumps([asdict(job) for job in jobs]))
    process = subprocess.run([sys.executable, "-m", "tests.device.commands", str(file), str(ended)],
                             capture_output=True, text=True, timeout=timeout, cwd=Path(__file__).parents[2])  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(ended.read_text())


if __name__ == "__main__":
    from tests.device import pretend

    pretend.register()
    ended = {}
    for job in (Job(**each) for each in json.loads(Path(sys.argv[1]).read_text())):
        pretend.allow_float64(job.float64)
        ended[job.name] = run(job)
    Path(sys.argv[2]).write_text(json.dumps(ended))
