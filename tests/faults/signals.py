"""Signals in every phase of every command, in real processes: the code, one line, no litter, and nothing lost.

``python -m tests.faults.signals --signals 200`` prints a table; the suite tries some.
"""

import argparse
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.faults.commands import Try, table
from tests.faults.payloads import CONFIG, HARD, LM
from tests.faults.processes import Processes

FAMILIES = {
    "families": [{"class_path": "EntropyMatched", "init_args": {"entropies": 3, "per_entropy": 2}}],
    "chunk_size": 3,
}
SOFT = CONFIG | {"model": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 30}}, "data": FAMILIES}
LIFT = SOFT | {"model": {"class_path": "SoftPrompt", "init_args": {"length": 1, "steps": 9, "init": {"kind": "lift"}}}}
SHARED = {"class_path": "HardPrompt", "init_args": {"length": 3, "steps": 4}}
CONFIGS = {"soft": SOFT, "lift": LIFT, "hard": SOFT | {"model": SHARED}, "gcg": SOFT | {"model": HARD}}
TEXT = "Once upon a time there was a king who had three sons.\n" * 400
PRETRAIN = {
    "model": {
        "architecture": "llama", "out": "trained",
        "options": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    },
    "data": {"texts": {"path": "text.txt"}, "vocab_size": 300, "context": 16, "batch_size": 4},
    "trainer": {"max_epochs": 2},
}  # fmt: skip

#: Commands by the row of the table that they are counted in; RUN is a run that has ended and was tested.
COMMANDS = {
    "fit": [("fit", "--config", f"{name}.yaml") for name in CONFIGS],
    "test": [("test", "--run", "RUN")],
    "validate": [("validate", "--run", "RUN")],
    "predict": [("predict", "--run", "RUN")],
    "floor": [("floor", "--config", "soft.yaml", "--tolerance", "1e-6")],
    "shortest": [("shortest", "--config", "hard.yaml", "--kl", "1", "--lengths", "1", "2")],
    "report": [("report", "RUN", "--out", "page")],
    "targets build": [("targets", "build", "--config", "soft.yaml", "--out", "made")],
    "targets show": [("targets", "show", "RUN")],
    "pretrain": [("pretrain", "--config", "pretrain.yaml")],
}
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_LITTER = ("*.part", ".targets-*", ".*.parquet", ".*.png", ".*.safetensors", ".*.html", ".*.pdf")


def _prepare(processes: Processes, lm: Path) -> None:
    Path("text.txt").write_text(TEXT)
    Path("pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN))
    for name, config in CONFIGS.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config | {"lm": str(lm)}))
    Path("temporary").mkdir()
    for command in (("fit", "--config", "soft.yaml", "--logs", "ended"), ("test", "--run", "ended/soft/version_0")):
        pid = processes.start(*command, folder=Path.cwd(), temporary=Path("temporary").absolute(), log=Path("log"))
        assert processes.wait(pid) == 0, Path("log").read_text()


def _litter(*folders: Path) -> list[str]:
    found = [path for folder in folders for pattern in _LITTER for path in folder.rglob(pattern)]
    return [str(path) for path in [*found, *Path("temporary").iterdir()]]


def _try(processes: Processes, kind: str, words: tuple[str, ...], number: int, share: float, lasts: float) -> Try:
    folder = Path("try")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in [*Path.cwd().glob("*.yaml"), Path("text.txt")]:
        shutil.copy(path, folder)
    shutil.copytree("ended", folder / "logs")
    words = tuple("logs/soft/version_0" if word == "RUN" else word for word in words)
    log = Path("log").absolute()
    pid = processes.start(*words, folder=folder.absolute(), temporary=Path("temporary").absolute(), log=log)
    until = time.monotonic() + share * lasts
    while (code := processes.ended(pid)) is None and time.monotonic() < until:
        time.sleep(0.005)
    sent = time.monotonic()
    try:
        if code is None:
            os.kill(pid, number)
            code = processes.wait(pid)
    except TimeoutError:
        return Try(kind, " ".join(words), "hung", "did not end")
    took = time.monotonic() - sent
    said = log.read_text()
    last = said.rstrip().rpartition("\n")[2].rpartition("\r")[2]
    what = f"{signal.Signals(number).name} at {share:.0%} of {' '.join(words)}"
    shutil.copy(log, "last.log")
    if code == 0:
        return Try(kind, what, "had ended", "" if "Interrupted" not in said else said[-500:])
    wrong = [] if code == _CODES[signal.Signals(number)] else [f"code {code}"]
    wrong += [] if last.startswith("Interrupted") else [f"said {said[-300:]!r}"]
    wrong += ["a traceback"] if "Traceback" in said else []
    wrong += [f"left {path}" for path in _litter(folder)]
    wrong += [f"took {took:.1f} s"] if took > 10 else []
    shutil.rmtree("temporary")
    Path("temporary").mkdir()
    return Try(kind, what, "interrupted", "; ".join(wrong))


def _duration(processes: Processes, words: tuple[str, ...]) -> float:
    began = time.monotonic()
    _try(processes, "", words, signal.SIGTERM, math.inf, 1.0)
    return time.monotonic() - began


def campaign(count: int, seed: int = 0, lm: Path = LM, kinds: tuple[str, ...] = tuple(COMMANDS)) -> list[Try]:
    """Sends ``count`` signals, in turn to each command, at random moments.

    Args:
        count: of signals.
        seed: of the draw.
        lm: a small LM.
        kinds: rows of :data:`COMMANDS`.
    """
    draw = random.Random(seed)
    every = [(kind, words) for kind in kinds for words in COMMANDS[kind]]
    tries: list[Try] = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        os.chdir(folder)
        try:
            _prepare(processes, lm)
            lasts: dict[tuple[str, ...], float] = {}
            for k in range(count):
                kind, words = every[k % len(every)]
                if words not in lasts:
                    lasts[words] = _duration(processes, words)
                number = draw.choice(list(_CODES))
                tries.append(_try(processes, kind, words, number, draw.random(), lasts[words]))
        finally:
            os.chdir(before)
    return tries


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tries = campaign(options.signals, options.seed)
    print(table(tries))
    sys.exit(any(t.violation for t in tries))
