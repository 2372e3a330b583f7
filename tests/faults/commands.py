"""What the campaigns in this folder have in common: commands run in this process, and a table of what happened."""

import argparse
import contextlib
import io
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lit_prompt.main import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code; 1 after a traceback.
        said: all that it printed.
    """

    code: int
    said: str

    @property
    def error(self) -> str:
        """Its last line."""
        return self.said.rstrip().rpartition("\n")[2]

    @property
    def clean(self) -> bool:
        """Whether it ended well, or with one line that says why not."""
        if self.code == 0:
            return "Traceback" not in self.said
        return self.code == 2 and "Traceback" not in self.said and self.error.startswith("lit_prompt: error: ")


def run(*args: object) -> Outcome:
    """Runs a command in this process, in the current folder."""
    said = io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            code = 1
            traceback.print_exc(file=said)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Outcome(code, said.getvalue())


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """The current folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


@dataclass(frozen=True)
class Try:
    """One attack, or several that ended alike.

    Attributes:
        kind: the row of the table that it is counted in.
        what: tells it from others.
        result: what happened, a column of the table.
        violation: what must not have happened; empty where it did not.
        count: of attacks.
    """

    kind: str
    what: str
    result: str
    violation: str = ""
    count: int = 1


def table(tries: Iterable[Try]) -> str:
    """A Markdown table of attacks, a row a kind, and the violations below it."""
    tries = list(tries)
    results = sorted({t.result for t in tries})
    lines = ["| " + " | ".join(["what", "tried", *results, "violations"]) + " |"]
    lines += ["|" + " --- |" + " ---: |" * (len(results) + 2)]
    for kind in [*dict.fromkeys(t.kind for t in tries), "all"]:
        mine = [t for t in tries if kind in (t.kind, "all")]
        counts: Counter[str] = Counter()
        for t in mine:
            counts[t.result] += t.count
        violations = sum(t.count for t in mine if t.violation)
        numbers = [counts.total(), *(counts[name] for name in results), violations]
        lines.append("| " + " | ".join([kind, *(f"{n:,}" for n in numbers)]) + " |")
    lines += [f"{t.kind}: {t.what}: {t.violation}" for t in tries if t.violation]
    return "\n".join(lines)


def show(campaign: Callable[[int, int], list[Try]], about: str | None, things: str, count: int) -> None:
    """Runs a campaign as the command line asks, prints its table, and ends with code 1 after a violation.

    Args:
        campaign: given how many, and a seed.
        about: for its help.
        things: that it tries, the name of the option.
        count: how many, unless that option says.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(f"--{things}", dest="count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tries = campaign(options.count, options.seed)
    print(table(tries))
    sys.exit(any(t.violation for t in tries))
