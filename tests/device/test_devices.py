"""Every command and every search on a simulated accelerator without float64, the main ones on one that has it, too:
the same KLs as on the CPU.

A process that knows the device knows it for good, so all jobs on it run in one process that this module starts; the
CPU's run in the tests' own, which is one as long as a file's tests stay on one worker (--dist loadfile).
"""

import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from lit_prompt.search import GCG, SharedSearch
from tests.conftest import REPOSITORY
from tests.device import pretend
from tests.device.jobs import Job, run_on_device
from tests.device.searches import SEARCHES, TARGETS, write_targets

pytestmark = [
    pytest.mark.timeout(900),  # the first test runs all jobs
    pytest.mark.skipif(pretend.why_not() is not None, reason=str(pretend.why_not())),
]

MODES = {"float64": True, "no_float64": False}
#: What is done on either device; all else on the stricter one alone.
IN_BOTH = ("soft", "lift", SharedSearch.method, GCG.method)
SEARCHED = [(mode, name) for mode in MODES for name in SEARCHES if name in IN_BOTH or mode == "no_float64"]
RUN = "logs/{}/version_0"
DATA = {"chunk_size": 2, "load": f"../{TARGETS}"}
BANK = {"random_sequences": 2, "sampled_texts": 2, "drawn_sequences": 1, "natural_texts": 24}
GCG_SMALL = {"class_path": "GCG", "init_args": {"width": 8, "top_k": 32, "momentum": 0.5}}
FROM_LM = {"class_path": "FromLM", "init_args": {"count": 2, "cut": {"min_words": 1, "max_words": 3}}}
TASK = [
    {"name": "a", "task": "t", "context": {"after": " He was"}, "strings": {" very glad": 0.6, " sad": 0.4}},
    {"name": "b", "task": "t", "context": {"before": "Yes,"}, "probs": {" a": 0.5, " the": 0.5}},
    {"name": "c", "cells": {"x": [" very glad", " good"], "y": [" no"]}, "probs": {"x": 0.8, "y": 0.2}},
]
TASKS = {"families": [{"class_path": "FromFile", "init_args": {"path": "task.jsonl"}}]}
CONFIGS = {
    "soft": {
        "model": {"class_path": "SoftPrompt", "init_args": {"length": 3, "steps": 6, "restarts": 2}},
        "data": DATA,
    },
    "hard": {
        "model": {
            "class_path": "HardPrompt",
            "init_args": {
                "length": 3, "steps": 6, "restarts": 2, "screening": "never", "searcher": GCG_SMALL, "start": BANK,
            },
        },
        "data": DATA,
    },
    "from_lm": {"model": {"class_path": "SoftPrompt", "init_args": {"steps": 2}}, "data": {"families": [FROM_LM]}},
    "tasks": {"model": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 2}}, "data": TASKS},
    "hard_tasks": {
        "model": {"class_path": "HardPrompt", "init_args": {"length": 2, "steps": 2, "start": BANK}}, "data": TASKS,
    },
}  # fmt: skip
#: How often a step of a search may wait for the device, whatever the number of targets, restarts and contexts.
MOST_WAITS = {"soft": 15, "gcg": 20, "shared": 20, "hotflip": 20}
#: How far operations of a step grow with eight times as many searches side by side: candidates are grouped by their
#: first change, and more of them pay for more groups, one for each position of a prompt at most.
MOST_GROWTH = {"soft": 1.0, "hotflip": 2.0, "gcg": 2.0, "shared": 2.0}
#: Runs that change devices: CPU up to the first step, device up to the second, device up to the third, CPU.
MOVED = {"soft": (2, 4, 8), "hard": (2, 4, 8)}
MOVES = [("no_float64", "soft"), ("no_float64", "hard"), ("float64", "soft")]
TRAINED = ("fit", "test", "validate", "predict", "shortest", "pretrain")
COMMANDS = {
    "validate": ["validate", "--run", RUN.format("soft")],
    "predict": ["predict", "--run", RUN.format("hard")],
    "test on another LM": ["test", "--run", RUN.format("hard"), "--lm", "../other"],
    "report": ["report", RUN.format("soft"), RUN.format("hard"), "--out", "report"],
    "export": ["export", "--run", RUN.format("hard"), "--format", "embeds", "--out", "exported"],
    "fit of a task": ["fit", "--config", "tasks.yaml", "--model.temperature", "0.7"],
    "fit of a task's tokens": ["fit", "--config", "hard_tasks.yaml"],
    "floor": ["floor", "--config", "from_lm.yaml"],
    "targets build": ["targets", "build", "--config", "from_lm.yaml", "--out", "built"],
    "shortest": ["shortest", "--config", "from_lm.yaml", "--kl", "0.1", "--lengths", "1"],
    "pretrain": [
        "pretrain", "--config", str(REPOSITORY / "configs" / "pretrain" / "minute.yaml"),
        "--data.texts.path", str(REPOSITORY / "data" / "lms" / "heldout.txt"),
        "--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--data.context", "32",
    ],
}  # fmt: skip

STRICT = """
import pytest, torch
from tests.device import pretend
pretend.register()
x = torch.rand(3, 4).to("pretend")
before = pretend.counts()
assert torch.equal((x @ x.T).cpu(), x.cpu() @ x.cpu().T)
x[x > 0.5].sum().item()
waits = pretend.counts().waits - before.waits
assert waits == 3 + 1 + 1, waits  # three copies to the host, a mask, an item
assert float((2.0 * x).sum() + torch.tensor(1.0)) > 1.0
assert x[torch.tensor([0])].dtype == x.double().float().dtype
for mixed in (lambda: x + torch.ones(3, 4), lambda: torch.ones(3)[x.argmax(1)], lambda: torch.cat([x, x.cpu()]),
              lambda: x.index_put_((torch.tensor([0]),), torch.ones(1, 4))):
    with pytest.raises(RuntimeError, match="device|cpu"):
        mixed()
with pytest.raises(RuntimeError, match="generator"):
    torch.rand(3, device="pretend", generator=torch.Generator())
pretend.allow_float64(False)
for double in (x.double, lambda: x.sum(dtype=torch.float64), lambda: torch.ones(3, dtype=torch.float64).to("pretend")):
    with pytest.raises(TypeError, match="float64"):
        double()
assert torch.ones(3, dtype=torch.float64).to(x).dtype == torch.float32
"""


class Machine:
    """A working folder, and jobs in it on one kind of device.

    Args:
        root: of all tests; the LM is in ``lm``.
        name: of the working folder.
        device: Lightning's name of the device.
    """

    def __init__(self, root, name, device):
        self.root, self.name, self.device = root, name, device
        self.folder = root / name
        if not self.folder.exists():
            self.folder.mkdir()
            for config, settings in CONFIGS.items():
                (self.folder / f"{config}.yaml").write_text(json.dumps(settings))
            (self.folder / "task.jsonl").write_text("".join(json.dumps(line) + "\n" for line in TASK))

    def _job(self, name, args, **options):
        args = [str(arg) for arg in args]
        return Job(f"{self.name} {self.device} {name}", str(self.folder), args, float64=MODES.get(self.name, True),
                   **options)  # fmt: skip

    def search(self, name, *steps):
        args = [name, self.root, self.root / "lm", self.device, *steps]
        return self._job(" ".join(map(str, ("search", name, *steps))), args, is_search=True)

    def command(self, name, *args, **options):
        on_device = ["--trainer.accelerator", self.device] if args[0] in TRAINED else []
        lm = [] if args[0] in ("report", "pretrain") or "--run" in args else ["--lm", self.root / "lm"]
        return self._job(name, [*args, *on_device, *lm], **options)

    def fit(self, config, **options):
        return self.command(f"fit {config}", "fit", "--config", f"{config}.yaml", **options)

    def resume(self, config, **options):
        at = options.get("interrupt_at", "the end")
        return self.command(f"resume {config} up to {at}", "fit", "--run", RUN.format(config), **options)

    def test(self, config):
        return self.command(f"test {config}", "test", "--run", RUN.format(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_lm, make_lm):
    """The folder of all jobs: two LMs, the targets, and a working folder for each mode and for the CPU alone."""
    root = tmp_path_factory.mktemp("devices")
    shutil.copytree(tiny_lm, root / "lm")
    shutil.copytree(make_lm("gpt2"), root / "other")
    write_targets(root, str(root / "lm"))
    return root


@pytest.fixture(scope="module")
def ended(root):
    """Runs all jobs; how each ended."""
    cpu = Machine(root, "cpu", "cpu")
    jobs = [job for config in MOVED for job in (cpu.fit(config), cpu.test(config))]
    jobs += [cpu.search(name) for name in SEARCHES]
    hosts, devices = ({mode: Machine(root, mode, device) for mode in MODES} for device in ("cpu", pretend.NAME))
    jobs += [hosts[mode].fit(config, interrupt_at=MOVED[config][0]) for mode, config in MOVES]
    ended = {job.name: job.run() for job in jobs}
    jobs = [devices[mode].search(name) for mode, name in SEARCHED]
    for mode, config in MOVES:
        machine = devices[mode]
        jobs += [*(machine.resume(config, interrupt_at=step) for step in MOVED[config][1:]), machine.test(config)]
    strict = devices["no_float64"]
    jobs += [strict.search(name, steps) for name in MOST_WAITS for steps in (2, 6)]
    jobs += [
        strict.search(name, steps, restarts) for name in MOST_GROWTH for steps in (2, 6) for restarts in (1, 4, 8, 32)
    ]
    jobs += [strict.command(name, *args) for name, args in COMMANDS.items()]
    ended |= run_on_device(jobs, root, timeout=600)
    jobs = [job for mode, config in MOVES for job in (hosts[mode].resume(config), hosts[mode].test(config))]
    return ended | {job.name: job.run() for job in jobs}


def check(ended, name, code=0):
    """Tells what a job said unless it ended as it should."""
    assert ended[name]["code"] == code, f"{name}\n{ended[name]['said']}"


@pytest.mark.parametrize(("mode", "name"), SEARCHED)
def test_a_search_gives_the_cpus_results(ended, mode, name):
    expected, found = f"cpu cpu search {name}", f"{mode} {pretend.NAME} search {name}"
    check(ended, expected)
    check(ended, found)
    # bfloat16 rounds a logit of 8 by up to this much, and its kernels differ between devices
    tolerance = 2**-5 if name.endswith("bfloat16") else 1e-5
    assert_same_results(ended[found]["columns"], ended[expected]["columns"], tolerance)


def assert_same_results(found, expected, tolerance=1e-5):
    for key in ("kl", "kl_floor", "kl_best_random", "kl_best_natural", "kl_worst_restart"):
        assert found[key] == pytest.approx(expected[key], abs=tolerance), key
    if any(own is not None for own in expected.get("weights", ())):  # mixtures
        assert max(found["components"]) > 1
        for key in ("kl_single", "weights_gap"):
            assert found[key] == pytest.approx(expected[key], abs=tolerance), key
        for own, other in zip(found["weights"], expected["weights"], strict=True):
            assert own == pytest.approx(other, abs=1e-3)
    for key in ("target_id", "steps", "forward_passes", "stop_reason"):
        assert found[key] == expected[key], key


@pytest.mark.parametrize(("mode", "config"), MOVES)
def test_a_run_moves_between_devices(ended, root, mode, config):
    _, second, third = MOVED[config]
    host, device = f"{mode} cpu", f"{mode} {pretend.NAME}"
    check(ended, f"{host} fit {config}", code=130)
    check(ended, f"{device} resume {config} up to {second}", code=130)
    check(ended, f"{device} resume {config} up to {third}", code=130)
    check(ended, f"{device} test {config}")
    check(ended, f"{host} resume {config} up to the end")
    check(ended, f"{host} test {config}")
    check(ended, f"cpu cpu test {config}")
    partial, whole, expected = (
        pq.read_table(root / folder / RUN.format(config) / file).to_pydict()
        for folder, file in ((mode, "results.parquet"), (mode, "results-1.parquet"), ("cpu", "results.parquet"))
    )
    assert_same_results(whole, expected)
    assert partial["kl"][:2] == pytest.approx(expected["kl"][:2], abs=1e-5)  # its first chunk was done


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_well(ended, name):
    check(ended, f"no_float64 {pretend.NAME} {name}")


@pytest.mark.parametrize("restarts", ["", " 8"])
@pytest.mark.parametrize("name", MOST_WAITS)
def test_a_step_seldom_waits_for_the_device(ended, name, restarts):
    few, many = (f"no_float64 {pretend.NAME} search {name} {steps}{restarts}" for steps in (2, 6))
    check(ended, few)
    check(ended, many)
    assert (ended[many]["waits"] - ended[few]["waits"]) / 4 <= MOST_WAITS[name]


@pytest.mark.parametrize("name", MOST_GROWTH)
def test_operations_of_a_step_hardly_grow_with_searches_side_by_side(ended, name):
    def operations(restarts):
        few, many = (f"no_float64 {pretend.NAME} search {name} {steps} {restarts}" for steps in (2, 6))
        check(ended, few)
        check(ended, many)
        return (ended[many]["operations"] - ended[few]["operations"]) / 4

    assert 0 < operations(8) <= MOST_GROWTH[name] * operations(1)
    assert 0 < operations(32) <= MOST_GROWTH[name] * operations(4)


def test_the_device_is_as_strict_as_a_gpu():
    subprocess.run([sys.executable, "-c", STRICT], check=True, cwd=REPOSITORY)


def test_float64_is_made_in_one_place():
    made = [path for path in (REPOSITORY / "lit_prompt").rglob("*.py") if ".double()" in path.read_text()]
    assert [path.name for path in made] == ["precision.py"]
