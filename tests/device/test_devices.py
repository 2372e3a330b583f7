"""Every command and every search on a simulated accelerator, with float64 and without: the same KLs as on the CPU.

The device is known to a whole process, so all commands on it run in one that this module starts; the CPU's run in the
tests' own. A file's fixtures are made by each worker that runs one of its tests: the group keeps these on one.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lit_prompt.data import Target, TargetSet
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.search import SEARCHERS
from tests.conftest import REPOSITORY
from tests.device import pretend
from tests.device.commands import Job, run, run_on_device

pytestmark = [
    pytest.mark.xdist_group("device"),
    pytest.mark.skipif(pretend.why_not() is not None, reason=str(pretend.why_not())),
]

MODES = {"float64": True, "no_float64": False}
CONTEXTS = {"chunk_size": 2, "load": "../contexts"}
SETTINGS = {
    "SharedSearch": {"width": 4, "top_k": 32},
    "GCG": {"width": 8, "top_k": 32, "momentum": 0.5, "buffer": 2},
    "HotFlip": {"num_candidates": 8, "beam_size": 2, "order": "random"},
    "ARCA": {"averaged": 3, "num_candidates": 8},
    "GBDA": {"relaxed": 2, "sample_every": 2, "samples": 4},
    "RandomSearch": {"width": 8},
}
SMALL_BANK = {"random_sequences": 2, "sampled_texts": 2, "drawn_sequences": 1}


def _soft(**settings):
    return {"class_path": "SoftPrompt", "init_args": {"length": 3, "steps": 5, **settings}}


def _hard(searcher, start=SMALL_BANK, **settings):
    searcher = {"class_path": searcher, "init_args": SETTINGS.get(searcher, {})}
    settings = {"length": 3, "steps": 3, "searcher": searcher, "start": start, **settings}
    return {"class_path": "HardPrompt", "init_args": settings}


def _config(model, data=CONTEXTS, **settings):
    return {"model": model, "data": data, **settings}


FROM_LM = {"class_path": "FromLM", "init_args": {"count": 2, "cut": {"min_words": 1, "max_words": 3}}}
BFLOAT16 = {"lm_options": {"dtype": "bfloat16"}}
CASES = {
    "soft": _config(_soft(restarts=2, before="The king", max_norm=2.0)),
    "soft_bfloat16": _config(_soft(), **BFLOAT16),
    "lift": _config({"class_path": "LiftPrompt", "init_args": {"length": 2, "steps": 3}}),
    "lift_bfloat16": _config({"class_path": "LiftPrompt", "init_args": {"length": 2, "steps": 3}}, **BFLOAT16),
    "from_lm": _config(_soft(), {"families": [FROM_LM]}),
    **{each.method: _config(_hard(each.__name__, restarts=2, before="The king")) for each in SEARCHERS},
    "hard_bfloat16": _config(_hard("SharedSearch"), **BFLOAT16),
    "fluent": _config(_hard("GCG", fluency=0.1, readable=False, max_forward_passes=20)),
    "from_text": _config(_hard("HotFlip", {"kind": "text", "text": " house"}, after=" said")),
    "from_random": _config(_hard("SharedSearch", {"kind": "random"}, patience=2)),
    "from_soft": _config(_hard("PEZ", {"kind": "soft", "soft_run": "logs/soft/version_0"})),
}
#: Cases that are interrupted as well, and the step at whose end they are.
BROKEN = {"soft": 3, "shared": 2}
RUN = "logs/{}/version_0"
TRAINED = ("fit", "test", "validate", "predict", "shortest", "pretrain")
PRETRAIN = REPOSITORY / "configs" / "pretrain" / "minute.yaml"
TEXT = REPOSITORY / "data" / "lms" / "heldout.txt"


class Machine:
    """A working folder, and commands in it on one kind of device.

    Args:
        folder: the folder; its name names the machine.
        lm: the LM that is searched.
        device: Lightning's name of the device.
    """

    def __init__(self, folder, lm, device):
        self.folder, self.lm, self.device = folder, lm, device
        self.float64 = MODES.get(folder.name, True)
        folder.mkdir(exist_ok=True)

    def command(self, name, *args, interrupt_at=None):
        on_device = ["--trainer.accelerator", self.device] if args[0] in TRAINED else []
        args = [str(arg) for arg in (*args, *on_device)]
        return Job(f"{self.folder.name} {self.device} {name}", str(self.folder), args, self.float64, interrupt_at)

    def fit(self, case, name=None, interrupt_at=None):
        """A new run of a case, under another name than its own if one is given."""
        name = name or case
        (self.folder / f"{name}.yaml").write_text(json.dumps(CASES[case]))
        options = ["--config", f"{name}.yaml", "--lm", self.lm]
        return self.command(f"fit {name}", "fit", *options, interrupt_at=interrupt_at)

    def resume(self, name):
        return self.command(f"resume {name}", "fit", "--run", RUN.format(name))

    def test(self, name):
        return self.command(f"test {name}", "test", "--run", RUN.format(name))


class Outcome:
    """All commands' ends, and the folders of their runs."""

    def __init__(self, root, ended):
        self.root, self.ended = root, ended

    def check(self, name, code=0):
        """Says what a command said unless it ended as it should."""
        ended = self.ended[name]
        assert ended["code"] == code, f"{name}\n{ended['said']}"

    def results(self, machine, name):
        return pq.read_table(self.root / machine / RUN.format(name) / "results.parquet").to_pylist()

    def assert_as_on_the_cpu(self, machine, name, case, tolerance=1e-5):
        found, expected = self.results(machine, name), self.results("cpu", case)
        assert [row["target_id"] for row in found] == [row["target_id"] for row in expected]
        for key in ("kl", "kl_floor", "kl_best_random", "kl_best_natural", "kl_worst_restart"):
            expected_values = [row[key] for row in expected]
            assert [row[key] for row in found] == pytest.approx(expected_values, abs=tolerance), key
        assert [row["forward_passes"] for row in found] == [row["forward_passes"] for row in expected]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, tiny_lm):
    """Runs every command on every machine, runs that change machines included."""
    root = tmp_path_factory.mktemp("devices")
    _write_contexts(root / "contexts", tiny_lm)
    cpu = Machine(root / "cpu", tiny_lm, "cpu")
    jobs = [job for case in CASES for job in (cpu.fit(case), cpu.test(case))]
    jobs += [cpu.fit(case, f"{case}_to_device", interrupt_at=step) for case, step in BROKEN.items()]
    ended = {job.name: run(job) for job in jobs}
    jobs = []
    for mode in MODES:
        machine = Machine(root / mode, tiny_lm, pretend.NAME)
        jobs += [job for case in CASES for job in (machine.fit(case), machine.test(case))]
        for case, step in BROKEN.items():
            moved = Path("logs") / f"{case}_to_device"
            shutil.copytree(cpu.folder / moved, machine.folder / moved)
            jobs += [
                machine.fit(case, f"{case}_here", interrupt_at=step),
                machine.resume(f"{case}_here"),
                machine.test(f"{case}_here"),
                machine.fit(case, f"{case}_to_cpu", interrupt_at=step),
                machine.resume(f"{case}_to_device"),
                machine.test(f"{case}_to_device"),
            ]
        jobs += [machine.command(name, *args) for name, args in _other_commands(tiny_lm).items()]
    ended |= run_on_device(jobs, root, timeout=250)
    for mode in MODES:
        machine = Machine(root / mode, tiny_lm, "cpu")
        for case in BROKEN:
            ended |= {job.name: run(job) for job in (machine.resume(f"{case}_to_cpu"), machine.test(f"{case}_to_cpu"))}
    return Outcome(root, ended)


def _other_commands(lm):
    soft, gcg = RUN.format("soft"), RUN.format("gcg")
    return {
        "validate soft": ["validate", "--run", soft],
        "validate gcg": ["validate", "--run", gcg],
        "predict soft": ["predict", "--run", soft],
        "predict gcg": ["predict", "--run", gcg],
        "floor": ["floor", "--config", "from_lm.yaml", "--lm", lm],
        "targets build": ["targets", "build", "--config", "from_lm.yaml", "--lm", lm, "--out", "built"],
        "report": ["report", soft, gcg, "--out", "report"],
        "shortest": ["shortest", "--config", "gcg.yaml", "--lm", lm, "--kl", 0.1, "--lengths", 1, 2],
        "pretrain": ["pretrain", "--config", PRETRAIN, "--data.texts.path", TEXT, "--trainer.max_steps", 2,
                     "--trainer.val_check_interval", 2, "--data.context", 32, "--data.batch_size", 4],
    }  # fmt: skip


def _write_contexts(folder, lm):
    vocabulary = Vocabulary.load(str(lm), LMOptions())
    texts = [(None, None), ("Yes,", None), ("one, two, three, four,", " six"), ("", None)]
    targets = []
    for i, (before, after) in enumerate(texts):
        logits = 2.0 * torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
        targets.append(replace(Target.from_logits(f"t{i}", "random", logits), before=before, after=after))
    TargetSet.write(folder, targets, vocabulary.size, vocabulary.fingerprint)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_a_search_gives_the_cpus_results(outcome, mode, case):
    for machine in ("cpu cpu", f"{mode} {pretend.NAME}"):
        outcome.check(f"{machine} fit {case}")
        outcome.check(f"{machine} test {case}")
    outcome.assert_as_on_the_cpu(mode, case, case)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize(
    ("move", "begun", "resumed"),
    [("here", pretend.NAME, pretend.NAME), ("to_cpu", pretend.NAME, "cpu"), ("to_device", "cpu", pretend.NAME)],
)
def test_a_run_is_resumed_and_tested_on_any_device(outcome, mode, case, move, begun, resumed):
    name = f"{case}_{move}"
    outcome.check(f"{'cpu' if begun == 'cpu' else mode} {begun} fit {name}", code=130)
    outcome.check(f"{mode} {resumed} resume {name}")
    outcome.check(f"{mode} {resumed} test {name}")
    outcome.assert_as_on_the_cpu(mode, name, case)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", _other_commands("lm"))
def test_a_command_ends_well(outcome, mode, command):
    outcome.check(f"{mode} {pretend.NAME} {command}")
