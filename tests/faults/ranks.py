"""SIGKILL of random processes of one search: taken on by any number of them, it ends as one that was left alone.

``python -m tests.faults.ranks --kills 30`` prints a table; the suite tries some.
"""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.faults.commands import Try, show
from tests.faults.payloads import LM
from tests.faults.workplace import FAMILIES, SHARED, SOFT, Workplace, workplace
from tests.saved import curves, saved

_SEARCHES: dict[str, dict[str, Any]] = {
    "single": SOFT["model"] | {"init_args": {"length": 2, "steps": 100}},
    **{
        name: SHARED | {"init_args": {"length": 3, "steps": 12, "screening": wanted}}
        for name, wanted in (("shared", "never"), ("screened", "always"))
    },
}
_DATA = FAMILIES | {"families": [{"class_path": "EntropyMatched", "init_args": {"entropies": 4, "per_entropy": 2}}]}
#: A search is killed in at most so many commands before it is left alone.
_MOST_COMMANDS = 4


def children(pid: int) -> list[int]:
    """The processes that one has started, in their order; none where it has ended."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return sorted(int(number) for text in lists for number in text.split())


def command(pid: int) -> str:
    """What a process was started with; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def lives(pid: int) -> bool:
    """Whether a process has not ended, whosever child it is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _all_end(pids: list[int], most: float = 120) -> None:
    """Waits for processes that may be nobody's children any more.

    Raises:
        TimeoutError: if one of them has not ended after so many seconds; all are killed.
    """
    until = time.monotonic() + most
    while any(map(lives, pids)):
        if time.monotonic() > until:
            for pid in filter(lives, pids):
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"processes {pids} did not end")
        time.sleep(0.02)


def _killed(place: Workplace, words: tuple[str, ...], count: int, moments: list[tuple[float, float]]) -> int:
    """Runs a command in ``count`` processes; kills one at each moment, a time and which one; how many it has killed."""
    first = place.start(*words, "--trainer.devices", count)
    began, kills, ranks = time.monotonic(), 0, [first]
    for at, which in sorted(moments):
        while time.monotonic() < began + at and any(map(lives, ranks)):
            ranks += [child for child in children(first) if child not in ranks]
            time.sleep(0.01)
        if living := [pid for pid in ranks if lives(pid)]:
            os.kill(living[int(which * len(living))], signal.SIGKILL)
            kills += 1
    while lives(first):  # it may start others yet
        ranks += [child for child in children(first) if child not in ranks]
        time.sleep(0.02)
    _all_end(ranks)
    place.wait(first)
    return kills


def _try(place: Workplace, name: str, whole: Path, lasts: float, most: int, draw: random.Random) -> Try:
    """Kills processes of a search in one command after the other, and compares what the last one finds."""
    place.clear()
    (place.folder / f"{name}.yaml").write_text((whole / f"{name}.yaml").read_text())
    run, words, kills, counts = Path("logs") / name / "version_0", ("fit", "--config", f"{name}.yaml"), 0, []
    for _ in range(_MOST_COMMANDS):
        counts.append(draw.randint(1, 3) if counts else 2)
        moments = [(lasts * draw.uniform(0.1, 0.7), draw.random()) for _ in range(draw.randint(1, counts[-1]))]
        kills += _killed(place, words, counts[-1], moments[: most - kills])
        if any((place.folder / run / "chunks").glob("*.zip")):
            words = ("fit", "--run", str(run))
        else:  # nothing was kept: it begins anew, in another folder
            run = run.with_name(f"version_{len(list((place.folder / run).parent.glob('version_*')))}")
        if kills == most or (place.folder / run / "prompts.safetensors").exists():
            break
    counts.append(draw.randint(1, 3))
    what = f"{name}, {kills} killed, in {', '.join(map(str, counts))} processes"
    code = place.wait(place.start(*words, "--trainer.devices", counts[-1]))
    if code:
        return Try(name, what, "killed", f"then code {code}: {place.said[-500:]}", kills)
    wanted, found = (path / run.with_name(number) for path, number in ((whole, "version_0"), (place.folder, run.name)))
    expected, results = saved(wanted), saved(found)
    wrong = [f"other {key}" for key in expected if not torch.equal(expected[key], results[key])]
    wrong += [] if torch.equal(curves(wanted), curves(found)) else ["other curves"]
    wrong += [] if (found / "prompts.safetensors").exists() else ["no prompts"]
    wrong += [f"left {path}" for path in [*place.litter, *found.glob("leases*"), *found.glob("chunks/*under_way*")]]
    return Try(name, what, "killed", "; ".join(wrong), kills)


def campaign(count: int, seed: int = 0, lm: Path = LM, kinds: tuple[str, ...] = tuple(_SEARCHES)) -> list[Try]:
    """Kills ``count`` processes at random moments of searches that several make.

    Args:
        count: of processes that are killed.
        seed: of the draw.
        lm: a small LM.
        kinds: of searches, in turn.
    """
    draw = random.Random(seed)
    tries: list[Try] = []
    with workplace(lm) as place:
        lasts: dict[str, float] = {}
        whole = place.folder.parent / "whole"
        for name in kinds:
            whole.mkdir(exist_ok=True)
            model = _SEARCHES[name]
            text = yaml.safe_dump({"lm": str(lm), "model": model, "data": _DATA, "checkpoint": {"every_n_steps": 5}})
            for folder in (whole, place.folder):
                (folder / f"{name}.yaml").write_text(text)
            words = ("fit", "--config", f"{name}.yaml", "--logs")
            assert place.wait(place.start(*words, str(whole / "logs"))) == 0, place.said
            began = time.monotonic()
            assert place.wait(place.start(*words, "timed", "--trainer.devices", 2)) == 0, place.said
            lasts[name] = time.monotonic() - began
        while (kills := sum(t.count for t in tries)) < count:
            name = kinds[len(tries) % len(kinds)]
            tries.append(_try(place, name, whole, lasts[name], count - kills, draw))
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "kills", 30)
