"""A distribution as a user's file gives it, and what is said about a file that cannot be read."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lit_prompt.errors import InputError

#: What is done with a mistake in a file: raised, or collected while the reading goes on.
Report = Callable[[InputError], None]


def raise_error(error: InputError) -> None:
    """The report that ends the reading at the first mistake."""
    raise error


@dataclass
class UserDistribution:
    """One distribution as its file gives it.

    Attributes:
        place: file and what comes before a line's number, such as ``coins.csv:``.
        line: line (Parquet: row) where it begins.
        name: the user's name for it.
        answers: texts of one token, ids, or, where ``strings`` is set, texts of any number of tokens; None for
            one whose mistake was reported.
        probs: probabilities, as they were given.
        strings: whether the texts may be longer than a token.
        lines: line of each answer; where it is empty, all are at ``line``.
        before: text before the prompt; None for the module's.
        after: text after the prompt; None for the module's.
        metadata: whatever else the record holds.
        warnings: what looks like a slip and was not read, each with its line.
        faulty: whether a mistake in it was reported before, so that it is no target.
    """

    place: str
    line: int
    name: str
    answers: list[int | str | None] = field(default_factory=list)
    probs: list[Any] = field(default_factory=list)
    strings: bool = False
    lines: list[int] = field(default_factory=list)
    before: str | None = None
    after: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faulty: bool = False

    @property
    def where(self) -> str:
        """File and line, for errors."""
        return f"{self.place}{self.line}"

    def where_of(self, position: int) -> str:
        """File and line of an answer, for errors."""
        return f"{self.place}{self.lines[position]}" if self.lines else self.where


def misspelled(keys: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """A warning for each key that looks like a known one.

    Args:
        keys: keys that nothing reads.
        known: keys that are read.
        where: file and line.
    """
    found = []
    for key in keys:
        # close enough for "prob" and "contxt"; "id" is a name of its own beside "ids"
        if near := difflib.get_close_matches(key.lower(), list(known), n=1, cutoff=0.85):
            found.append(f"{where}: {key!r} is not read; did you mean {near[0]!r}?")
    return found
