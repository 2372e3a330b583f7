"""A distribution as a user's file gives it, checked as far as that needs no vocabulary."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lit_prompt.data.user_records import NOT_UTF8, Record, Report
from lit_prompt.errors import InputError

_CONTEXT = ("before", "after")


@dataclass
class UserDistribution:
    """One distribution as its file gives it.

    Attributes:
        place: file and what comes before a line's number, such as ``coins.csv:``.
        line: line (Parquet: row) where it begins.
        name: the user's name for it.
        strings: whether the texts of ``answers`` may be longer than a token.
        answers: texts of one token, ids, or, where ``strings`` is set, texts of any number of tokens; None for
            one whose mistake was reported.
        probs: probabilities, as they were given.
        lines: line of each answer.
        before: text before the prompt; None for the module's.
        after: text after the prompt; None for the module's.
        metadata: whatever else the record holds.
        warnings: what looks like a slip and was not read, each with its line.
        faulty: whether a mistake in it was reported before, so that it is no target.
    """

    place: str
    line: int
    name: str
    strings: bool = False
    answers: list[int | str | None] = field(default_factory=list)
    probs: list[Any] = field(default_factory=list)
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
        return f"{self.place}{self.lines[position]}"

    def add(self, rows: Iterable[Record], key: str, report: Report) -> None:
        """Adds rows of an answer each, that of the first one giving the context.

        Args:
            rows: with ``key``, ``prob`` and, where there is a context, ``before`` and ``after``.
            key: ``token``, ``string`` or ``id``.
            report: given the first mistake of each row.
        """
        for line, row in rows:
            if not self.lines:
                self.before, self.after = row.get("before"), row.get("after")
            self.lines.append(line)
            self.probs.append(row["prob"])
            self.answers.append(None)
            try:
                self._check_row(row, f"{self.place}{line}")
                self.answers[-1] = _answer(row[key], key, f"{self.place}{line}")
            except InputError as error:
                self.fault(error, report)

    def fault(self, error: InputError, report: Report) -> None:
        """Reports a mistake in it."""
        self.faulty = True
        report(error)

    def _check_row(self, row: dict[Any, Any], where: str) -> None:
        if None in row:
            raise InputError(f"{where}: has more cells than there are columns; put a text with a comma between quotes")
        if any(isinstance(cell, str) and NOT_UTF8.search(cell) for cell in row.values()):
            raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8")
        for side in _CONTEXT:
            text, first = row.get(side), getattr(self, side)
            if text is not None and not isinstance(text, str):
                raise InputError(f"{where}: {side} is {text!r}, not a text")
            if text != first:
                here, there = ("empty" if shown is None else repr(shown) for shown in (text, first))
                raise InputError(
                    f"{where}: {side} of {self.name!r} is {here} here but {there} at {self.where}; it must be the same "
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
        if isinstance(given, bool) or (isinstance(given, float) and whole != given):
            raise ValueError("a truth value or a fraction")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{shown} is not a whole number") from error
    return whole
