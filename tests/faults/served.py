"""Killed searches behind a server, and servers that fail: nothing kept is asked for again, the end is the same.

``python -m tests.faults.served --attacks 230`` kills searches 30 times and has a server fail 200 times; the suite
tries some.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml

from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.served.store import question_key
from tests.conftest import EMBEDDED_LLAMA
from tests.faults.commands import Try, inside, run, show
from tests.served.server import Served, serving

_KILLS, _OF = 30, 230
_MOST_KILLS = 3
_LISTED = 50
_FAULT = 0.1
_BEFORE = "Once upon a time there was a"
_TARGETS = [
    {"name": "even", "probs": {" little": 0.5, " man": 0.5}},
    {"name": "uneven", "probs": {" king": 0.7, " man": 0.3}},
]


def _config(url: str, steps: int) -> str:
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _TARGETS))
    model = {"class_path": "TextPrompt", "init_args": {"before": _BEFORE, "length": 24, "steps": steps}}
    lm = {"class_path": "Served", "init_args": {"url": url, "listed": _LISTED}}
    families = [{"class_path": "FromFile", "init_args": {"path": "t.jsonl"}}]
    Path("f.yaml").write_text(yaml.safe_dump({"lm": lm, "model": model, "data": {"families": families}}))
    return "f.yaml"


def _texts(place: Path) -> list[str]:
    path = place / "prompts.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []


def _kept(place: Path) -> set[bytes]:
    """What is kept in a run's folder."""
    found: set[bytes] = set()
    for path in (place / "answers").glob("*.sqlite"):
        with sqlite3.connect(path) as file:
            found |= {key for (key,) in file.execute("SELECT key FROM answers")}
    return found


def _killed(served: Served, steps: int, whole: list[str], draw: random.Random) -> tuple[Try, int]:
    """Kills a search at some questions, and goes on; how often it was killed."""
    runs = Path("logs/f")
    before = set(runs.glob("version_*"))
    words, place = ["fit", "--config", _config(served.url, steps)], Path()
    kept: set[bytes] = set()
    kills, repeated = 0, 0
    ends = [draw.randint(10, 120) for _ in range(draw.randint(1, _MOST_KILLS))]
    for end in [*ends, None]:
        served.prompts.clear()
        command = [sys.executable, "-m", "lit_prompt", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and (end is None or len(served.prompts) < end):
                time.sleep(0.005)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        time.sleep(0.2)  # questions that were under way
        repeated += sum(question_key(["after", _LISTED, prompt]) in kept for prompt in served.prompts[1:])
        new = [run for run in runs.glob("version_*") if run not in before and (run / "answers").is_dir()]
        if new and (new[0] / "config.yaml").exists():
            place, words = new[0], ["fit", "--run", str(new[0])]
            kept = _kept(place)
    wrong = [] if _texts(place) == whole else ["found other prompts"]
    wrong += [f"asked for {repeated} answers again that were kept"] if repeated else []
    return Try("SIGKILL", f"killed at {ends} questions", "same end", "; ".join(wrong), kills), kills


def _failing(served: Served, steps: int, whole: list[str], seed: int) -> tuple[Try, int]:
    """Searches while the server fails; how often it did."""
    served.fault, served.seed = _FAULT, seed
    served.__post_init__()
    questions = len(served.prompts)
    asked = len(served.asked)
    outcome = run("fit", "--config", _config(served.url, steps))
    served.fault = 0.0
    failed = max(1, len(served.asked) - asked - (len(served.prompts) - questions))
    newest = max(Path("logs/f").glob("version_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    wrong = "" if outcome.code == 0 and _texts(newest) == whole else f"code {outcome.code}, or other prompts"
    return Try("faults of the server", f"seed {seed}", "same end", wrong, failed), failed


@contextmanager
def _place(steps: int) -> Iterator[tuple[Served, list[str]]]:
    """A served LM, and what a search finds that is left alone."""
    lm = FrozenLM.load(str(EMBEDDED_LLAMA), LMOptions(), torch.device("cpu"))
    vocabulary = Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions())
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)), serving(Served(lm, vocabulary)) as served:
        assert run("fit", "--config", _config(served.url, steps)).code == 0
        yield served, _texts(Path("logs/f/version_0"))


def campaign(count: int, seed: int = 0, steps: int = 6) -> list[Try]:
    """So many attacks, of which those on searches are as many as of the full campaign."""
    tries: list[Try] = []
    draw = random.Random(seed)
    kills = max(1, count * _KILLS // _OF)
    with _place(steps) as (served, whole):
        faults = 0
        while faults < count - kills:
            found, more = _failing(served, steps, whole, draw.getrandbits(30))
            tries.append(found)
            faults += more
        killed = 0
        while killed < kills:
            found, more = _killed(served, steps, whole, draw)
            tries.append(found)
            killed += more
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "attacks", _OF)
