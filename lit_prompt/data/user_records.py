"""The records of a user's file, each with its line: objects of JSONL, rows of CSV and Parquet."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lit_prompt.errors import InputError

#: What is done with a mistake in a file: raised, or collected while reading continues.
Report = Callable[[InputError], None]
#: A record and its line (Parquet: row).
Record = tuple[int, dict[Any, Any]]

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
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
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
    """Reads the columns of CSV or Parquet, and then its rows; an empty ``before`` or ``after`` of CSV is None.

    Raises:
        InputError: at once or between the rows, if the file is broken.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _parquet_rows(path)
    return list(next(rows)[1]), rows


def _csv_rows(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            yield 1, dict.fromkeys(reader.fieldnames or [])
            for row in reader:
                yield reader.line_num, row | {side: row[side] or None for side in ("before", "after") if side in row}
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: not CSV ({error}); nothing after it was read") from error


def _parquet_rows(path: Path) -> Iterator[Record]:
    try:
        with pq.ParquetFile(path) as file:
            yield 0, dict.fromkeys(file.schema_arrow.names)
            yield from enumerate((row for batch in file.iter_batches() for row in batch.to_pylist()), start=1)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
