"""A distribution as a user's file gives it, checked as far as that needs no vocabulary."""

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lit_prompt.data.target import Texts
from lit_prompt.data.user_facts import KEYS, UserFacts
from lit_prompt.data.user_records import NOT_UTF8, Record, Report
from lit_prompt.errors import InputError

#: Columns that are the same in all rows of a distribution.
SHARED = ("before", "after", *KEYS)


@dataclass
class UserDistribution:
    """One distribution as its file gives it.

    Attributes:
        place: file and what comes before a line's number, such as ``coins.csv:``.
        line: line (Parquet: row) where it begins.
        name: the user's name for it.
        report: given each mistake in it.
        strings: whether the texts of ``answers`` may be longer than a token.
        values: what ``given`` holds: ``prob``, ``percent``, ``count`` or ``log_prob``.
        answers: texts of one token, ids, or, where ``strings`` is set, texts of any number of tokens; names of cells
            where there are ``cells``; None for one whose mistake was reported.
        cells: the answers of each cell; None where every answer is given a value.
        given: a value for each answer or cell, as it is in the file.
        lines: line of each answer or cell.
        texts: what stands around the prompt.
        facts: its task, and what ends its answers.
        metadata: whatever else the record holds.
        warnings: what looks like a slip and was not read, each with its line.
        faulty: whether a mistake in it was reported, so that it is no target.
    """

    place: str
    line: int
    name: str
    report: Report
    strings: bool = False
    values: str = "prob"
    answers: list[int | str | None] = field(default_factory=list)
    cells: list[list[str]] | None = None
    given: list[Any] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    texts: Texts = field(default_factory=lambda: Texts(None, None, None))
    facts: UserFacts = field(default_factory=UserFacts)
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faulty: bool = False

    @property
    def where(self) -> str:
        """File and line, for errors."""
        return f"{self.place}{self.line}"

    def where_of(self, position: int) -> str:
        """File and line of an answer, for errors."""
        return f"{self.place}{self.lines[position]}"

    @contextmanager
    def mistakes_reported(self) -> Iterator[None]:
        """Reports a mistake that is found in the block."""
        try:
            yield
        except InputError as error:
            self.faulty = True
            self.report(error)

    def add(self, rows: Iterable[Record], key: str) -> None:
        """Adds rows of an answer (``token``, ``string``, ``id`` or ``cell``) each.

        The first one gives what must be the same in all of them: the context, and the task.
        """
        first: dict[Any, Any] = {}
        for line, row in rows:
            if not self.lines:
                first = {name: row.get(name) for name in SHARED}
                with self.mistakes_reported():
                    self.facts = UserFacts.take(dict(first), f"{self.place}{line}")
                self.texts = Texts(first["before"], first["after"], None)
            self.lines.append(line)
            self.given.append(row[self.values])
            self.answers.append(None)
            with self.mistakes_reported():
                self._check_row(row, first, f"{self.place}{line}")
                self.answers[-1] = _answer(row[key], key, f"{self.place}{line}")

    def _check_row(self, row: dict[Any, Any], first: dict[Any, Any], where: str) -> None:
        if None in row:
            raise InputError(f"{where}: has more cells than there are columns; put a text with a comma between quotes")
        if any(isinstance(cell, str) and NOT_UTF8.search(cell) for cell in row.values()):
            raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8")
        for name in SHARED:
            cell = row.get(name)
            if name in ("before", "after") and cell is not None and not isinstance(cell, str):
                raise InputError(f"{where}: {name} is {cell!r}, not a text")
            if cell != first[name]:
                here, there = ("empty" if shown is None else repr(shown) for shown in (cell, first[name]))
                raise InputError(
                    f"{where}: {name} of {self.name!r} is {here} here but {there} at {self.where}; it must be the same "
                    "in all of its rows"
                )


def _answer(given: Any, key: str, where: str) -> int | str:
    shown = f"{where}: {key} {reprlib.repr(given)}"
    if key != "id":
        if not isinstance(given, str):
            raise InputError(f'{shown} is not a text; for ids use "ids" (a column "id")')
        return given
    try:
        whole = int(given)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or isinstance(given, bool) or (isinstance(given, float) and whole != given):
        raise InputError(f"{shown} is not a whole number")
    return whole
