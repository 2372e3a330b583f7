"""SIGKILL at random moments: a search that goes on finds the same, any command can be given again, nothing is left.

``python -m tests.faults.kills --kills 100`` prints a table; the suite tries some.
"""

import os
import random
import signal
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.faults.commands import Try, show
from tests.faults.payloads import LM
from tests.faults.signals import duration
from tests.faults.workplace import COMMANDS, Workplace, in_turn, workplace

#: A search that was killed may be killed again as often as this.
_MOST_KILLS = 3


def _killed(place: Workplace, words: tuple[str, ...], at: float) -> bool:
    """Runs a command and kills it after ``at`` seconds; whether it had not ended by then."""
    pid = place.start(*words)
    if place.ended_within(pid, at) is not None:
        return False
    os.kill(pid, signal.SIGKILL)
    return place.wait(pid) == -signal.SIGKILL


def _found(place: Workplace, command: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The prompts of the run that a fit has begun or taken on; none where it has left none."""
    run = place.folder / command[-1]
    if run.suffix == ".yaml":
        runs = (place.folder / "logs" / run.stem).glob("version_*")
        run = max(runs, key=lambda path: int(path.name.rpartition("_")[2]))
    prompts = run / "prompts.safetensors"
    return load_file(prompts) if prompts.exists() else {}


def _fit(place: Workplace, words: tuple[str, ...], lasts: float, draw: random.Random) -> Try:
    """Kills a search again and again, goes on each time, and compares what it finds with one that was left alone."""
    name = Path(words[-1]).stem
    shares = [draw.random() for _ in range(draw.randint(1, _MOST_KILLS))]
    what = f"{name} killed at {', '.join(f'{share:.0%}' for share in shares)}"
    place.clear()
    assert place.wait(place.start(*words)) == 0, place.said
    whole = _found(place, words)
    place.clear()
    runs = place.folder / "logs" / name
    before = set(runs.glob("version_*"))
    command = words
    kills = 0
    for share in shares:
        kills += _killed(place, command, share * lasts)
        new = [run for run in runs.glob("version_*") if run not in before and any((run / "chunks").glob("*.zip"))]
        command = ("fit", "--run", str(new[0].relative_to(place.folder))) if new else words
    if place.wait(place.start(*command)) != 0:
        return Try("fit", what, "killed", place.said[-500:])
    found = _found(place, command)
    same = bool(whole) and found.keys() == whole.keys() and all(np.array_equal(found[key], whole[key]) for key in whole)
    wrong = [] if same else [f"found other prompts ({len(found)}, not {len(whole)})"]
    wrong += [f"left {path}" for path in place.litter]
    return Try("fit", what, "killed" if kills else "had ended", "; ".join(wrong))


def _other(place: Workplace, kind: str, words: tuple[str, ...], at: float) -> Try:
    """Kills a command and gives it again."""
    place.clear()
    killed = _killed(place, words, at)
    what = f"{' '.join(words)} killed after {at:.2f} s"
    code = place.wait(place.start(*words))
    had_ended = any(word in place.last_line for word in ("exists", "holds an LM already"))
    wrong = [] if code == 0 or had_ended else [f"then code {code}: {place.said[-400:]}"]
    wrong += [f"left {path}" for path in place.litter]
    return Try(kind, what, "killed" if killed else "had ended", "; ".join(wrong))


def campaign(count: int, seed: int = 0, lm: Path = LM, kinds: tuple[str, ...] = tuple(COMMANDS)) -> list[Try]:
    """Kills ``count`` times, in turn each command, at random moments.

    Args:
        count: of commands that are killed.
        seed: of the draw.
        lm: a small LM.
        kinds: rows of :data:`COMMANDS`.
    """
    draw = random.Random(seed)
    with workplace(lm) as place:
        tries, lasts = [], {}
        for kind, words in in_turn(count, kinds):
            if words not in lasts:
                lasts[words] = duration(place, words)
            if kind == "fit":
                tries.append(_fit(place, words, lasts[words], draw))
            else:
                tries.append(_other(place, kind, words, draw.random() * lasts[words]))
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "kills", 100)
