"""Reading a user's distributions from CSV and Parquet: a row an answer."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_prompt.data.user_distribution import Report, UserDistribution, misspelled
from lit_prompt.data.user_json import NOT_UTF8
from lit_prompt.errors import InputError

_ANSWERS = ("token", "string", "id")
_CONTEXT = ("before", "after")
_COLUMNS = ("name", "prob", *_ANSWERS, *_CONTEXT)

_Rows = Iterator[tuple[int, dict[Any, Any]]]


def read_csv(path: Path, report: Report) -> Iterator[UserDistribution]:
    """Reads a CSV file; an empty cell of ``before`` or ``after`` leaves the module's text.

    Args:
        path: with a line of column names.
        report: given each mistake; where it returns, the reading goes on with the next row.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            columns = list(reader.fieldnames or [])
        except csv.Error as error:
            return report(_no_csv(path, reader.line_num, error))
        yield from _group(_csv_rows(reader, path, report), columns, f"{path}:", path, report)


def _csv_rows(reader: "csv.DictReader[str]", path: Path, report: Report) -> _Rows:
    try:
        for row in reader:
            yield reader.line_num, {k: None if k in _CONTEXT and v == "" else v for k, v in row.items()}
    except csv.Error as error:
        report(_no_csv(path, reader.line_num, error))


def _no_csv(path: Path, line: int, error: csv.Error) -> InputError:
    return InputError(f"{path}:{line}: not CSV ({error}); nothing after it was read")


def read_parquet(path: Path, report: Report) -> Iterator[UserDistribution]:
    """Reads a Parquet file.

    Args:
        path: the file.
        report: given each mistake; where it returns, the reading goes on with the next row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows(file: pq.ParquetFile) -> _Rows:
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row

    try:
        with pq.ParquetFile(path) as file:
            yield from _group(rows(file), file.schema_arrow.names, f"{path}: row ", path, report)
    except (pa.ArrowInvalid, OSError) as error:
        report(InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})"))


def _group(rows: _Rows, columns: list[str], place: str, path: Path, report: Report) -> Iterator[UserDistribution]:
    """Gathers the rows of each distribution; they need not follow one another."""
    given = [key for key in _ANSWERS if key in columns]
    if not given or "prob" not in columns:
        return report(
            InputError(
                f"{path}: needs the columns prob and token (or id, or string for texts of several tokens), and name "
                f"for several targets; has {columns}"
            )
        )
    if {"token", "string"} <= set(given):
        return report(InputError(f"{path}: has both a column token and a column string; keep one of them"))
    found: dict[str, UserDistribution] = {}
    for line, row in rows:
        name = path.stem if row.get("name") in (None, "") else str(row["name"])
        entry = found.get(name)
        if entry is None:
            entry = UserDistribution(place, line, name, strings=given[0] == "string")
            entry.before, entry.after = row.get("before"), row.get("after")
            found[name] = entry
        entry.lines.append(line)
        entry.probs.append(row["prob"])
        try:
            entry.answers.append(_answer(row, given[0], entry, f"{place}{line}"))
        except InputError as error:
            entry.faulty = True
            entry.answers.append(None)
            report(error)
    if not found:
        return report(InputError(f"{path}: holds no distribution"))
    next(iter(found.values())).warnings = _column_warnings(columns, path)
    yield from found.values()


def _answer(row: dict[Any, Any], key: str, entry: UserDistribution, where: str) -> int | str:
    """A row's answer, when all is well with the row."""
    if None in row:
        raise InputError(f"{where}: has more cells than there are columns; put a text with a comma between quotes")
    if any(isinstance(cell, str) and NOT_UTF8.search(cell) for cell in row.values()):
        raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8")
    for side in _CONTEXT:
        text = row.get(side)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: {side} is {text!r}, not a text")
        first = getattr(entry, side)
        if text != first:
            raise InputError(
                f"{where}: {side} of {entry.name!r} is {_shown(text)} here but {_shown(first)} at {entry.where}; it "
                "must be the same in all of its rows"
            )
    answer = row[key]
    if key == "id":
        return _whole(answer, where)
    if not isinstance(answer, str):
        raise InputError(f"{where}: {key} {answer!r} is not a text; use a column id for ids")
    return answer


def _shown(text: str | None) -> str:
    return "empty" if text is None else repr(text)


def _column_warnings(columns: list[str], path: Path) -> list[str]:
    where = f"{path}:1" if path.suffix == ".csv" else f"{path}"
    warnings = misspelled([c for c in columns if c not in _COLUMNS], _COLUMNS, where)
    if "context" in columns:
        warnings.append(f"{where}: 'context' is not read; the columns for texts around the prompt are before and after")
    return warnings


def _whole(given: Any, where: str) -> int:
    try:
        whole = int(given)
        if isinstance(given, float) and whole != given:
            raise ValueError("a fraction")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: id {given!r} is not a whole number") from error
    return whole
