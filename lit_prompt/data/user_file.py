"""Reading a user's distributions from JSONL, CSV or Parquet."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError


@dataclass
class UserDistribution:
    """One distribution as its file gives it.

    Attributes:
        where: file and line, for errors.
        name: the user's name for it.
        tokens: texts or ids.
        probs: probabilities, as they were given.
        metadata: whatever else the record holds.
        places: file and line of each token, for errors; where it is empty, all are at ``where``.
    """

    where: str
    name: str
    tokens: list[int | str]
    probs: list[Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)


def read_distributions(path: Path) -> Iterator[UserDistribution]:
    """Reads the distributions of a file, one at a time.

    Args:
        path: ``.jsonl``: one object a line, ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}`` or with
            lists, ``{"tokens": [...], "probs": [...]}`` or ``{"ids": [...], "probs": [...]}``. ``.csv`` and
            ``.parquet``: a row a token, columns ``token`` or ``id``, ``prob`` and, where there are several
            distributions, ``name``.

    Raises:
        InputError: if the file is missing or malformed; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; data.families' path is taken from the folder you are in")
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: the name must end in .jsonl, .csv or .parquet")
    yield from readers[path.suffix](path)


def _read_jsonl(path: Path) -> Iterator[UserDistribution]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_decoded(lines, path), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(line, object_pairs_hook=_object)
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: {error}") from error
            if not isinstance(record, dict):
                raise InputError(f'{where}: not an object; write {{"probs": {{" yes": 0.7, " no": 0.3}}}}')
            yield _from_record(record, where, f"{path.stem}-{number}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json by itself would keep the last of two equal keys and say nothing."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is listed twice")
        found[key] = value
    return found


def _decoded(lines: Any, path: Path) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{_undecodable_line(path)}: not UTF-8 text ({error.reason})") from error


def _undecodable_line(path: Path) -> int:
    # the error itself counts from the start of a buffer, not of the file
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _from_record(record: dict[str, Any], where: str, default_name: str) -> UserDistribution:
    probs = record.pop("probs", None)
    ids = record.pop("ids", None)
    tokens = record.pop("tokens", None)
    name = str(record.pop("name", default_name))
    if isinstance(probs, dict) and ids is None and tokens is None:
        return UserDistribution(where, name, list(probs), list(probs.values()), record)
    chosen = tokens if ids is None else ids
    if not isinstance(probs, list) or not isinstance(chosen, list) or (tokens is not None and ids is not None):
        raise InputError(
            f'{where}: needs "probs" as an object of token to probability, or with a list of "tokens" or "ids"'
        )
    if len(chosen) != len(probs):
        raise InputError(f"{where}: {len(chosen)} tokens but {len(probs)} probabilities")
    wanted = str if ids is None else int
    for token in chosen:
        if not isinstance(token, wanted) or isinstance(token, bool):
            raise InputError(f'{where}: {token!r} in "{"tokens" if ids is None else "ids"}" is not {_NAMES[wanted]}')
    return UserDistribution(where, name, list(chosen), probs, record)


_NAMES: dict[type, str] = {str: "a text", int: "a whole number"}


def _read_csv(path: Path) -> Iterator[UserDistribution]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(_decoded(lines, path))
        rows = ((f"{path}:{reader.line_num}", row) for row in reader)
        try:
            yield from _group_rows(rows, list(reader.fieldnames or []), path)
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _read_parquet(path: Path) -> Iterator[UserDistribution]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    rows = ((f"{path}: row {i}", row) for i, row in enumerate(table.to_pylist(), start=1))
    yield from _group_rows(rows, table.column_names, path)


def _group_rows(rows: Iterator[tuple[str, Any]], columns: list[str], path: Path) -> Iterator[UserDistribution]:
    key = "token" if "token" in columns else "id"
    if key not in columns or "prob" not in columns:
        raise InputError(
            f"{path}: needs the columns prob and token (or id), and name for several targets; has {columns}"
        )
    found: dict[str, UserDistribution] = {}
    for where, row in rows:
        name = path.stem if row.get("name") in (None, "") else str(row["name"])
        token = row[key]
        if key == "id":
            token = _whole(token, where)
        elif not isinstance(token, str):
            raise InputError(f"{where}: token {token!r} is not a text; use a column id for ids")
        entry = found.setdefault(name, UserDistribution(where, name, [], []))
        entry.tokens.append(token)
        entry.probs.append(row["prob"])
        entry.places.append(where)
    if not found:
        raise InputError(f"{path}: holds no distribution")
    yield from found.values()


def _whole(given: Any, where: str) -> int:
    try:
        whole = int(given)
        if isinstance(given, float) and whole != given:
            raise ValueError("a fraction")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: id {given!r} is not a whole number") from error
    return whole
