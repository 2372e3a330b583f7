"""Several processes of one command find what one finds, whoever starts, stops or kills them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_prompt.records.prompts import read_prompts
from lit_prompt.under_way import sweep
from tests.conftest import REPOSITORY
from tests.faults.commands import inside, run
from tests.faults.ranks import children, command, lives
from tests.saved import curves, saved

pytestmark = pytest.mark.timeout(400)

STEPS = {"soft": 60, "hard": 10}
SEARCHES = {
    "soft": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": STEPS["soft"]}},
    "hard": {
        "class_path": "HardPrompt",
        "init_args": {
            "length": 3,
            "steps": STEPS["hard"],
            "screening": "never",  # whether it pays is measured, so that two runs may differ in it
            "searcher": {"class_path": "SharedSearch", "init_args": {"width": 12}},
        },
    },
}
MIXTURES = {"soft_mixture": ("soft", {"components": 2}), "hard_mixture": ("hard", {"components": 2})}
for _name, (_of, _more) in MIXTURES.items():
    _model = SEARCHES[_of]
    SEARCHES[_name] = _model | {"init_args": _model["init_args"] | _more}
SEARCHES["hard_mixture"]["init_args"] |= {"screening": "always", "restarts": 2}
DATA = {
    "chunk_size": 2,
    "families": [{"class_path": "EntropyMatched", "init_args": {"entropies": 4, "per_entropy": 2}}],
}
RUN = Path("logs/soft/version_0")
_WAIT = 200  # seconds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_lm: Path) -> Path:
    """A folder with configs, and a run of each that one process has made."""
    folder = tmp_path_factory.mktemp("whole")
    for name, model in SEARCHES.items():
        settings = {"lm": str(tiny_lm), "model": model, "data": DATA, "checkpoint": {"every_n_steps": 5}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    with inside(folder):
        for name in SEARCHES:
            outcome = run("fit", "--config", f"{name}.yaml")
            assert outcome.code == 0, outcome.said
    return folder


@pytest.fixture
def place(workdir: Path, whole: Path) -> Path:
    """The current folder, with the configs."""
    for name in SEARCHES:
        shutil.copy(whole / f"{name}.yaml", workdir)
    return workdir


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a command in a process group of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        *words: object, by: tuple[str, ...] = (sys.executable,), module: str = "lit_prompt", **environment: str
    ) -> "subprocess.Popen[str]":
        command = [*by, "-m", module, *map(str, words)]
        started.append(
            subprocess.Popen(
                command,
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    """Waits for the end of a process, and of those that print where it does; what they have printed."""
    out, err = process.communicate(timeout=_WAIT)
    assert process.returncode == code, out + err
    return out, err


def until(is_so: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    """Waits while a process lasts.

    Raises:
        AssertionError: if it has ended before.
    """
    end = time.monotonic() + _WAIT
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def others(process: "subprocess.Popen[str]", count: int) -> list[int]:
    """Stops a process when it has started so many others; gives those."""
    started: list[int] = []

    def all_started() -> bool:
        started[:] = [pid for pid in children(process.pid) if "lit_prompt" in command(pid)]
        return len(started) == count

    until(all_started, process)
    os.kill(process.pid, signal.SIGSTOP)
    return started


def begin_together(process: "subprocess.Popen[str]", folder: Path, count: int) -> list[int]:
    """Lets each of ``count`` processes wait with its first chunk until all have theirs; gives all of them."""
    pids = [process.pid, *others(process, count - 1)]
    try:
        for ranks in (range(1, count), range(1)):  # the first begins last, and would else do what it finds undone
            waiting = set(ranks)

            def all_have_begun(waiting: set[int] = waiting) -> bool:
                for rank in tuple(waiting):
                    if (folder / "leases" / f"chunk_{rank}.lease").exists():
                        os.kill(pids[rank], signal.SIGSTOP)
                        waiting.remove(rank)
                return not waiting

            for rank in ranks:
                os.kill(pids[rank], signal.SIGCONT)
            until(all_have_begun, process)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    return pids


def assert_same(found: Path, wanted: Path) -> None:
    """Holds where two runs have found the same, and nothing is left but what was found."""
    expected, results = saved(wanted), saved(found)
    for name, value in expected.items():
        assert torch.equal(value, results[name]), name
    assert torch.equal(curves(wanted), curves(found))
    ours, theirs = (read_prompts(run / "prompts.safetensors") for run in (wanted, found))
    assert ours[1]["sha256"] == theirs[1]["sha256"]  # of the prompts and all that is said of them
    assert not (found / "leases").exists()
    assert sorted(path.name for path in (found / "chunks").iterdir()) == sorted(
        path.name for path in (wanted / "chunks").iterdir()
    )
    assert not [*found.parents[1].rglob(".*")]


@pytest.mark.parametrize(
    ("name", "count"), [("soft", 2), ("soft", 3), ("hard", 2), ("hard", 3), *((name, 2) for name in MIXTURES)]
)
def test_any_number_finds_the_same(place, whole, start, name, count):
    process = start("fit", "--config", f"{name}.yaml", "--trainer.devices", count)
    folder = Path("logs", name, "version_0")
    begin_together(process, folder, count)
    out, _ = ended(process)
    assert f"{count} processes" in out
    assert out.count("evaluate with") == 1
    assert_same(folder, whole / folder)
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]


@pytest.mark.parametrize("searched", [RUN.parts[1], *MIXTURES])
def test_an_evaluation_in_parts_is_the_same(place, whole, start, searched):
    made = Path("logs", searched, "version_0")
    for folder in ("one", "two"):
        shutil.copytree(whole / "logs", Path(folder, "logs"))
    with inside(place / "one"):
        for command in ("test", "predict"):
            outcome = run(command, "--run", made)
            assert outcome.code == 0, outcome.said
    with inside(place / "two"):
        for command in ("test", "predict"):
            _, err = ended(start(command, "--run", made, "--trainer.devices", 2))
            assert "Traceback" not in err
            assert "UserWarning" not in err
    one, two = (place / folder / made for folder in ("one", "two"))
    names = sorted(path.name for path in one.iterdir() if "tfevents" not in path.name)
    assert names == sorted(path.name for path in two.iterdir() if "tfevents" not in path.name)
    tables = [name for name in names if name.endswith(".parquet")]
    assert len(tables) >= 2
    for name in tables:
        ours, theirs = (pq.read_table(folder / name) for folder in (one, two))
        if "seconds" in ours.column_names:
            ours, theirs = (table.drop_columns(["seconds"]) for table in (ours, theirs))
        assert ours.equals(theirs), name


def test_processes_without_a_launcher_join_a_run(place, whole, start):
    words = ("fit", "--config", "soft.yaml", "--join", "shared/soft/run")
    processes = [start(*words, "--data.shard", f"{k}/3") for k in (1, 2, 3)]
    for process in processes:
        ended(process)
    assert_same(Path("shared/soft/run"), whole / RUN)

    late = run(*words, "--model.steps", 61)
    assert (late.code, "Traceback" in late.said) == (2, False)
    assert "--join" in late.error
    assert "steps = 60, this process has 61" in late.error

    again = run(*words, "--data.shard", "2/3")
    assert again.code == 0
    assert "evaluate with" in again.said
    assert_same(Path("shared/soft/run"), whole / RUN)


def test_a_further_process_that_is_killed_is_missed_by_none(place, whole, start):
    process = start("fit", "--config", "soft.yaml", "--trainer.devices", 2)
    _, child = begin_together(process, RUN, 2)
    until((RUN / "chunks" / "chunk_1.under_way.zip").exists, process)
    os.kill(child, signal.SIGKILL)
    _, err = ended(process)
    assert "process 1 ended with code -9" in err
    sweep(RUN.parent)  # the note of the killed one, as the next command does
    assert_same(RUN, whole / RUN)


def test_the_others_go_on_where_the_first_is_killed(place, whole, start):
    process = start("fit", "--config", "soft.yaml", "--trainer.devices", 2)
    first, _ = begin_together(process, RUN, 2)
    until((RUN / "chunks" / "chunk_0.under_way.zip").exists, process)
    os.kill(first, signal.SIGKILL)
    ended(process, -signal.SIGKILL)
    sweep(RUN.parent)
    assert_same(RUN, whole / RUN)


def test_torchrun_starts_the_processes_of_a_run(place, whole, start):
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    words = ("fit", "--config", "soft.yaml", "--trainer.devices", 2)
    by = (torchrun, "--standalone", "--nproc-per-node", "2")
    out, _ = ended(start(*words, by=by))
    assert out.count("evaluate with") == 1
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]
    assert_same(RUN, whole / RUN)

    _, err = ended(start(*words[:3], by=by), 1)
    assert "torchrun has started 2 processes, and the trainer's settings are for 1; set trainer.devices" in err


def test_ray_starts_the_processes_of_a_run(place, whole, start):
    pytest.importorskip("ray.train")
    environment = {"PYTHONPATH": str(REPOSITORY), "RAY_TRAIN_V2_ENABLED": "1"}
    out, err = ended(start("soft.yaml", module="tests.with_ray", **environment))
    assert (out + err).count("evaluate with") == 1
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]
    assert_same(RUN, whole / RUN)


def test_slurm_starts_the_processes_of_a_run(place, whole, start):
    slurm = {
        "SLURM_JOB_ID": "20", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost",
    }  # fmt: skip
    words = ("fit", "--config", "soft.yaml", "--trainer.devices", 2)
    processes = [start(*words, **slurm, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]
    said = [ended(process)[0] for process in processes]
    assert "".join(said).count("evaluate with") == 1
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]
    assert_same(RUN, whole / RUN)


def test_an_interrupted_run_goes_on_in_any_number(place, whole, start):
    process = start("fit", "--config", "soft.yaml", "--trainer.devices", 2)
    begin_together(process, RUN, 2)
    until((RUN / "chunks" / "chunk_1.under_way.zip").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = ended(process, 130)
    advice = f"Interrupted; everything so far is saved. Resume with: lit_prompt fit --run {RUN}"
    assert err.rstrip().rpartition("\n")[2] == advice
    assert err.count("Interrupted") == 1
    assert "Traceback" not in err
    assert not (RUN / "leases").exists()
    for count in (1, 2, 3):
        shutil.copytree("logs", Path(str(count), "logs"))
        with inside(place / str(count)):
            ended(start("fit", "--run", RUN, "--trainer.devices", count))
            assert_same(RUN, whole / RUN)


def test_an_error_names_its_process(place, whole, start):
    shutil.copytree(whole / "logs", "logs")
    for chunk in range(4):
        (RUN / "chunks" / f"chunk_{chunk}.steps_60.zip").unlink()
    (RUN / "chunks" / "chunk_1.under_way.zip").write_bytes(b"damaged")
    process = start("fit", "--run", RUN, "--trainer.devices", 2)
    (child,) = others(process, 1)  # the first would come to that chunk, too
    try:
        end = time.monotonic() + _WAIT
        while lives(child):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=_WAIT)
    assert "lit_prompt: error in process 1: " in err
    assert "chunk_1.under_way.zip is damaged" in err
    assert "Traceback" not in err
