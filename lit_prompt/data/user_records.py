"""The records of a user's file, each with its line: objects of JSONL, rows of CSV, Parquet and ``datasets``."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lit_prompt.errors import InputError
from lit_prompt.files import BYTE_ORDER_MARK, refuse_utf16

#: What is done with a mistake in a file: raised, or collected while reading continues.
Report = Callable[[InputError], None]
#: A record and its line (Parquet: row).
Record = tuple[int, dict[Any, Any]]

#: Columns that hold what an answer is given: a probability, or what stands for one.
VALUES = ("prob", "percent", "count", "log_prob")

#: Columns in which an empty cell of CSV means that nothing is given.
OPTIONAL = ("before", "after", "task", "weight", "split", "end")

#: Bytes that are not UTF-8, as the error handler ``surrogateescape`` leaves them.
NOT_UTF8 = re.compile("[\udc80-\udcff]")
# halves of UTF-16 pairs, which JSON can escape one by one and no tokenizer takes
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def raise_error(error: InputError) -> None:
    """The report that ends the reading at the first mistake."""
    raise error


def read_objects(path: Path, report: Report) -> Iterator[Record]:
    """Reads JSON lines; where the report of a mistake returns, reading continues with the next line."""
    empty = True
    try:
        lines = _text(path)
    except InputError as error:
        report(error)
        return
    with lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(BYTE_ORDER_MARK)  # files that were joined have one in between
            if not line.strip():
                continue
            empty = False
            try:
                record = _object(line)
            except (ValueError, RecursionError) as error:
                report(InputError(f"{path}:{number}: {error}"))
            else:
                yield number, record
    if empty:
        report(InputError(f"{path}: holds no distribution"))


def _object(line: str) -> dict[str, Any]:
    if NOT_UTF8.search(line):
        raise ValueError("not UTF-8 text; save the file as UTF-8")
    try:
        record = json.loads(line, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if "\\u" in line and _HALF_PAIR.search(json.dumps(record, ensure_ascii=False)):
        raise ValueError("has half of a surrogate pair; write the character itself")
    if not isinstance(record, dict):
        raise ValueError('not an object; write {"probs": {" yes": 0.7, " no": 0.3}}')
    return record


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json by itself would keep the last of two equal keys and say nothing."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is listed twice")
        found[key] = value
    return found


def read_rows(path: Path) -> tuple[list[str], Iterator[Record]]:
    """Reads the columns of CSV, Parquet or a folder of ``datasets``, and then its rows.

    An empty cell of CSV is None in :data:`OPTIONAL` columns; ``true`` in its column ``end`` is no text.

    Raises:
        InputError: at once or between the rows, if the file is broken or a column stands twice.
    """
    if path.is_dir():
        columns, rows = _saved_rows(path)
    elif path.suffix.lower() == ".parquet":
        columns, rows = _parquet_rows(path)
    else:
        columns, rows = _csv_rows(path)
    for name, count in Counter(columns).items():
        if name and count > 1:
            raise InputError(f"{path}: the column {name!r} stands {count} times; keep one of them")
    return columns, rows


def _csv_rows(path: Path) -> tuple[list[str], Iterator[Record]]:
    with _text(path) as lines:
        header = lines.readline()
    separators = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
    try:
        separator = max(separators, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))
        columns = next(csv.reader([header], delimiter=separator), [])
    except csv.Error as error:
        raise InputError(f"{path}:1: not CSV ({error})") from error

    def rows() -> Iterator[Record]:
        with _text(path) as lines:
            reader = csv.DictReader(lines, delimiter=separator)
            try:
                for row in reader:
                    row |= {name: row[name] or None for name in OPTIONAL if name in row}
                    if (row.get("end") or "").lower() == "true":
                        row["end"] = True
                    if separator == ";":  # written where the comma is the decimal point
                        row |= {name: row[name].replace(",", ".") for name in (*VALUES, "weight") if row.get(name)}
                    yield reader.line_num, row
            except csv.Error as error:
                raise InputError(f"{path}:{reader.line_num}: not CSV ({error}); nothing after it was read") from error

    return columns, rows()


def _text(path: Path) -> TextIO:
    file = path.open("rb")
    refuse_utf16(path, file.peek(4))
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _parquet_rows(path: Path) -> tuple[list[str], Iterator[Record]]:
    def broken(error: Exception) -> InputError:
        return InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})")

    def rows() -> Iterator[Record]:
        try:
            with pq.ParquetFile(path) as file:
                yield from enumerate((row for batch in file.iter_batches() for row in batch.to_pylist()), start=1)
        except (pa.ArrowInvalid, OSError) as error:
            raise broken(error) from error

    try:
        return pq.read_schema(path).names, rows()
    except (pa.ArrowInvalid, OSError) as error:
        raise broken(error) from error


def _saved_rows(path: Path) -> tuple[list[str], Iterator[Record]]:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and pyarrow raise errors of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: not a folder that datasets' save_to_disk wrote ({reason[:300]})") from error
    if isinstance(saved, datasets.DatasetDict):
        raise InputError(
            f"{path}: holds the splits {', '.join(saved)}; name the folder of one, {path / next(iter(saved))}"
        )
    if "target_id" in saved.column_names:
        raise InputError(f"{path}: is a set of targets that was built before; name it with data.load, not as a family")
    return saved.column_names, enumerate(saved, start=1)
