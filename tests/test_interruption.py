"""Ctrl-C and SIGTERM end every phase of every command at once, lose nothing and say how to go on."""

import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from lit_prompt.callbacks.curves import KLCurves
from lit_prompt.data import target_folder
from lit_prompt.data.families import EntropyMatched
from lit_prompt.functional import OutputHead
from lit_prompt.lm import FrozenLM
from lit_prompt.models import floors
from lit_prompt.models.baselines import Baselines
from lit_prompt.models.evaluator import Evaluator
from lit_prompt.models.floors import Floors
from lit_prompt.pretrain import CausalLMTraining
from lit_prompt.records.table_format import TableFormat
from lit_prompt.report import page
from tests.conftest import REPOSITORY
from tests.saved import parts, saved

FAMILIES = """
data:
  chunk_size: 3
  families:
    - class_path: EntropyMatched
      init_args: {entropies: 3, per_entropy: 2}
"""
SOFT = "model: {class_path: SoftPrompt, init_args: {length: 3, steps: 12, restarts: 2}}" + FAMILIES
LBFGS = """
model:
  class_path: SoftPrompt
  init_args: {steps: 4, optimizer: {class_path: torch.optim.LBFGS, init_args: {lr: 0.1, max_iter: 3}}}
""" + FAMILIES.replace("chunk_size: 3", "chunk_size: 1").replace("entropies: 3, per_entropy: 2", "entropies: 2")
LIFT = "model: {class_path: SoftPrompt, init_args: {length: 1, steps: 6, init: {kind: lift}}}" + FAMILIES
SEARCHER = """
model:
  class_path: HardPrompt
  init_args: {length: 4, steps: 5, restarts: 2, screening: never, before: The king,
     searcher: {class_path: %s, init_args: %s}}
""" + FAMILIES  # fmt: skip
BANK = (
    """
model:
  class_path: HardPrompt
  init_args: {length: 4, steps: 5, screening: never, start: {random_sequences: 4, sampled_texts: 4, drawn_sequences: 2}}
"""
    + FAMILIES
)
CONFIGS = {
    "soft": SOFT,
    "lbfgs": LBFGS,
    "lift": LIFT,
    "bank": BANK,
    "shared": SEARCHER % ("SharedSearch", "{width: 8, top_k: 16}"),
    "gcg": SEARCHER % ("GCG", "{width: 8, buffer: 3, momentum: 0.5}"),
    "hotflip": SEARCHER % ("HotFlip", "{num_candidates: 8, beam_size: 2}"),
    "gbda": SEARCHER % ("GBDA", "{relaxed: 2, sample_every: 1, samples: 3}"),
    "pez": SEARCHER % ("PEZ", "{}"),
}


@contextmanager
def signal_at(owner, name, call=1, number=signal.SIGINT):
    """Sends this process a signal when a function is called for the n-th time; gives the list of its calls."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(number)
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


@pytest.fixture
def searched(cli, workdir, tiny_lm):
    """Fits a config; returns what was found, and what was said."""

    def run(name, text, *options, version=0, code=0):
        (workdir / f"{name}.yaml").write_text(text)
        said = cli("fit", "--config", f"{name}.yaml", "--lm", tiny_lm, *options, code=code)
        return Path(f"logs/{name}/version_{version}"), said

    return run


def found(run):
    """Everything that a search has found but for the time that it took."""
    return saved(run)


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) for name in a
    )  # tensors of different shapes are not equal


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_that_is_cut_is_made_again(name, searched, cli):
    text = CONFIGS[name]
    with signal_at(FrozenLM, "features", call=0) as passes:
        whole, _ = searched("run", text)
    for version, share in enumerate((0.3, 0.6), start=1):
        call = int(share * len(passes))
        with signal_at(FrozenLM, "features", call):
            run, said = searched("run", text, version=version, code=130)
        assert f"Resume with: lit_prompt fit --run {run}" in said.splitlines()[-1]
        assert not same(found(whole), found(run))
        cli("fit", "--run", run)
        assert same(found(whole), found(run)), call


def test_a_chunk_that_ended_early_does_not_shift_the_next(searched, cli):
    families = FAMILIES.replace("entropies: 3, per_entropy: 2", "entropies: [5.75, 1.0], per_entropy: 3")
    text = SOFT.replace(FAMILIES, families).replace("restarts: 2", "kl_tolerance: %s")
    early, _ = searched("early", text % 0, "--model.steps", 3)
    text = text % float(found(early)["kl"][:3].max())  # so that the first chunk ends after three steps
    with signal_at(KLCurves, "on_train_batch_end", call=0) as steps:
        whole, _ = searched("run", text)
    assert len(steps) == 3 + 12
    with signal_at(KLCurves, "on_train_batch_end", call=len(steps) - 2):
        run, _ = searched("run", text, version=1, code=130)
    assert list(parts(run)) == ["chunk_0.steps_12.zip", "chunk_1.under_way.zip"]
    cli("fit", "--run", run)
    assert same(found(whole), found(run))


@pytest.fixture
def interrupted(cli):
    """Runs a command that gets a signal when a function is called; returns the line that it ends with."""

    def run(owner, name, *args, call=1, number=signal.SIGINT):
        with signal_at(owner, name, call, number) as calls:
            said = cli(*args, code=128 + number)
        assert len(calls) == call  # nothing went on
        *_, last = said.splitlines()
        assert last.startswith("Interrupted; ")
        assert "Traceback" not in said
        return last

    return run


def test_a_fit_is_ended_before_and_after_its_search(interrupted, cli, workdir, tiny_lm):
    (workdir / "run.yaml").write_text(SOFT)
    fit = ["fit", "--config", "run.yaml", "--lm", tiny_lm]
    again = f"what was finished is kept. Begin again with: {shlex.join(map(str, ['lit_prompt', *fit]))}"
    assert interrupted(EntropyMatched, "targets", *fit).endswith(again)
    assert interrupted(FrozenLM, "load", *fit, number=signal.SIGTERM).endswith(again)
    assert not Path("logs").exists()
    last = interrupted(Evaluator, "columns", *fit)
    run = Path(last.rpartition(" ")[2])
    assert last.endswith(f"the search had ended. Evaluate it with: lit_prompt test --run {run}")
    # what the search has found was there before anything was made of it
    prompts = load_file(run / "prompts.safetensors")
    state = saved(run)
    best = state["prompts"][torch.arange(6), state["kl"].argmin(1)]
    assert torch.equal(torch.stack([prompts[name] for name in sorted(prompts)]), best[sorted_targets(run)])
    cli("test", "--run", run)
    assert not (run / "prompts-1.safetensors").exists()  # the same prompts


def sorted_targets(run):
    from lit_prompt.data import TargetSet

    names = TargetSet(run / "targets").target_id
    return sorted(range(len(names)), key=lambda i: names[i])


def test_every_other_command_is_ended_at_once(interrupted, cli, workdir, tiny_lm):
    (workdir / "run.yaml").write_text(CONFIGS["gcg"])
    with (
        signal_at(Baselines, "columns", call=0) as baselines,
        signal_at(OutputHead, "kl_and_gradient", call=0) as solved,
    ):
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm)
    assert not baselines  # what takes long is left to test
    assert not solved
    run = Path("logs/run/version_0")
    before = sorted(run.iterdir())
    for owner, name, call, command in (
        (Baselines, "columns", 2, "test"),
        (OutputHead, "kl_and_gradient", 3, "test"),
        (TableFormat, "write", 2, "test"),  # the first writes floors
        (Evaluator, "columns", 2, "validate"),
        (Evaluator, "token_records", 2, "predict"),
    ):
        number = signal.SIGTERM if name == "columns" else signal.SIGINT
        last = interrupted(owner, name, command, "--run", run, call=call, number=number)
        assert last.endswith(f"Begin again with: lit_prompt {command} --run {run}")
    assert [path for path in sorted(run.iterdir()) if "tfevents" not in path.name] == [
        path for path in before if "tfevents" not in path.name
    ]
    cli("test", "--run", run)
    report = ["report", run, "--out", "page"]
    assert interrupted(page, "_saved", *report).endswith(f"lit_prompt report {run} --out page")
    assert not (workdir / "page" / "report.html").exists()
    cli(*report)
    settings = ["--config", "run.yaml", "--lm", tiny_lm]
    interrupted(OutputHead, "kl_and_gradient", "floor", *settings, "--tolerance", 1e-6, call=4)
    build = ["targets", "build", *settings, "--out", "made/here"]
    again = shlex.join(map(str, ["lit_prompt", *build]))
    # before any target is there, and when all are but for the last words
    for owner, name in ((EntropyMatched, "targets"), (target_folder, "plain_digest")):
        last = interrupted(owner, name, *build)
        assert last == f"Interrupted; no target was written to made/here. Begin again with: {again}"
        assert not [*(workdir / "made").iterdir()]


def test_floors_that_are_certified_are_kept(interrupted, cli, workdir, tiny_lm, monkeypatch):
    monkeypatch.setattr(floors, "_TARGETS_TOGETHER", 16)
    monkeypatch.setattr(floors, "_ELEMENTS_TOGETHER", 16 * 320)
    text = FAMILIES.replace("chunk_size: 3", "chunk_size: 64").replace("per_entropy: 2", "per_entropy: 14")
    (workdir / "run.yaml").write_text(text)
    floor = ["floor", "--config", "run.yaml", "--lm", tiny_lm]
    with signal_at(Floors, "_solve", call=0) as parts:
        cli(*floor, "--logs", "whole")
    assert len(parts) == 3
    interrupted(Floors, "_solve", *floor, call=3)
    (path,) = Path("logs/floors").iterdir()
    assert pq.read_table(path).num_rows == 32
    with signal_at(Floors, "_solve", call=0) as parts:
        cli(*floor)
    assert len(parts) == 1
    found = [pq.read_table(f"{logs}/run/floors.parquet").to_pylist() for logs in ("whole", "logs")]
    assert found[0] == found[1]


def test_shortest_goes_on_from_the_lengths_that_it_has(interrupted, cli, workdir, tiny_lm):
    (workdir / "run.yaml").write_text(CONFIGS["shared"].replace("length: 4, ", ""))
    command = ["shortest", "--config", "run.yaml", "--lm", tiny_lm, "--kl", 1e-3, "--lengths", 1, 2, 3]
    last = interrupted(FrozenLM, "load", *command, call=3)  # a length is a fit and a test
    assert pq.read_table("logs/run-shortest/version_0/shortest.parquet").num_rows == 6
    go_on = shlex.split(last.rpartition("Go on with: ")[2])
    assert go_on[-3:] == ["--lengths", "2", "3"]
    cli(*go_on[1:])
    *_, last = sorted(Path("logs/run-shortest").glob("version_*"))
    assert pq.read_table(last / "results.parquet")["prompt_length"].to_pylist() == [3] * 6


@pytest.mark.parametrize("name", ["training_step", "validation_step", "on_fit_end"])
def test_a_training_is_resumed_where_it_was(name, interrupted, cli, workdir):
    config = REPOSITORY / "configs" / "pretrain" / "minute.yaml"
    text = REPOSITORY / "data" / "lms" / "heldout.txt"
    train = ["pretrain", "--config", config, "--data.texts.path", text, "--trainer.max_steps", 8, "--data.context", 32]
    train += ["--trainer.val_check_interval", 4, "--data.batch_size", 4, "--trainer.log_every_n_steps", 1]
    train += ["--trainer.enable_progress_bar", "false"]
    cli(*train)
    call = {"training_step": 3, "validation_step": 2, "on_fit_end": 1}[name]
    last = interrupted(CausalLMTraining, name, *train, call=call, number=signal.SIGTERM)
    whole, run = (Path(f"logs/minute/version_{k}") for k in (0, 1))
    assert last.endswith(f"Resume with: lit_prompt pretrain --run {run}")
    cli("pretrain", "--run", run)
    lms = [load_file(folder / "lm" / "model.safetensors") for folder in (whole, run)]
    assert all(torch.equal(lms[0][key], lms[1][key]) for key in lms[0])


def process(*args):
    return subprocess.Popen([sys.executable, *map(str, args)], stderr=subprocess.PIPE, text=True)


def test_a_process_ends_with_the_signals_code_while_it_imports(workdir, tiny_lm):
    (workdir / "run.yaml").write_text(SOFT)
    started = process("-m", "lit_prompt", "fit", "--config", "run.yaml", "--lm", tiny_lm)
    time.sleep(3.0)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate()
    assert started.returncode == 143
    assert said.splitlines()[-1].startswith("Interrupted; ")
    assert "Traceback" not in said


def test_a_process_ends_at_once_and_does_what_was_registered():
    script = """
import atexit, sys, threading, time, lit_prompt.main as command
from lit_prompt.interruption import Interrupted
def run(*words):
    raise Interrupted(15)
command._run = run
threading.Thread(target=time.sleep, args=(600,)).start()  # Python would wait for it
atexit.register(print, "registered")
sys.argv = ["lit_prompt", "fit", "a b"]
print("begun")
command.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143
    assert done.stdout.splitlines() == ["begun", "registered"]
    assert done.stderr.strip() == "Interrupted; what was finished is kept. Begin again with: lit_prompt fit 'a b'"


def test_a_second_ctrl_c_changes_nothing(workdir, tiny_lm):
    (workdir / "run.yaml").write_text(SOFT)
    settings = ["--model.steps", 10**6, "--checkpoint.every_n_steps", 5, "--model.kl_tolerance", 0]
    started = process("-m", "lit_prompt", "fit", "--config", "run.yaml", "--lm", tiny_lm, *settings)
    while not Path("logs/run/version_0/chunks/chunk_0.under_way.zip").exists():
        assert started.poll() is None
        time.sleep(0.05)
    for _ in range(3):
        started.send_signal(signal.SIGINT)
        time.sleep(0.03)
    _, said = started.communicate()
    assert started.returncode == 130
    assert said.splitlines()[-1].endswith("Resume with: lit_prompt fit --run logs/run/version_0")


def test_compiled_code_that_hears_no_signal_is_not_waited_for():
    script = """
import hashlib, threading
from lit_prompt.interruption import signals_taken
with signals_taken("said at last"):
    threading.Timer(1.0, print, [""], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha512", b"", b"", 10**8)
"""
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started.stdout.readline()
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert started.returncode == 130
    assert said.strip() == "Interrupted; what was finished is kept. Begin again with: said at last"
