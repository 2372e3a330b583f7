"""Files that may not grow: as on a full disk every command ends in one line, and nothing half written stays.

``python -m tests.faults.full_disk --limits 60`` prints a table; the suite tries some. The limit is the system's on the
length of a file, so that no file system need be mounted.
"""

import random
from pathlib import Path

from lit_prompt.errors import InputError
from lit_prompt.files import numbered
from lit_prompt.records.results import read_results
from tests.faults.commands import Try, show
from tests.faults.payloads import LM
from tests.faults.workplace import COMMANDS, Workplace, in_turn, workplace

#: The longest file that is allowed, bytes.
_MOST = 2**17


def _half_written(folder: Path) -> list[str]:
    """Results of which there are no prompts, or that cannot be read."""
    wrong = []
    for run in folder.rglob("version_*"):
        for path in numbered(run, "results.parquet"):
            try:
                read_results(path, run)
            except InputError as error:
                wrong.append(str(error))
    return wrong


def _try(place: Workplace, kind: str, words: tuple[str, ...], most: int) -> Try:
    place.clear()
    code = place.wait(place.start(*words, most=most))
    what = f"{' '.join(words)} with files of {most} bytes"
    said = place.said
    wrong = _half_written(place.folder) + [f"left {path}" for path in place.litter]
    wrong += ["a traceback"] if "Traceback" in said else []
    if code == 2:
        line = place.last_line
        good = line.startswith("lit_prompt: error: ") and ("the disk is full" in line or "no checkpoint" in line)
        wrong += [] if good else [f"said {said[-300:]!r}"]
    elif code != 0:
        wrong.append(f"code {code}: {said[-300:]!r}")
    if code != 0:
        again = place.wait(place.start(*words))
        wrong += [] if again == 0 else [f"then code {again}: {place.said[-300:]!r}"]
    return Try(kind, what, "one line" if code else "had room", "; ".join(wrong))


def campaign(count: int, seed: int = 0, lm: Path = LM, kinds: tuple[str, ...] = tuple(COMMANDS)) -> list[Try]:
    """Runs ``count`` commands, in turn each, with files of a random length at most.

    Args:
        count: of commands.
        seed: of the draw.
        lm: a small LM.
        kinds: rows of :data:`COMMANDS`.
    """
    draw = random.Random(seed)
    with workplace(lm) as place:
        return [_try(place, *each, int(_MOST * draw.random() ** 3)) for each in in_turn(count, kinds)]


if __name__ == "__main__":
    show(campaign, __doc__, "limits", 60)
