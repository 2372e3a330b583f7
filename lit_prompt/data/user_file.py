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
    """

    where: str
    name: str
    tokens: list[int | str]
    probs: list[Any]
    metadata: dict[str, Any] = field(default_factory=dict)


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
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(_decoded(lines, path), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
            if not isinstance(record, dict):
                raise InputError(f'{where}: not an object; write {{"probs": {{" yes": 0.7, " no": 0.3}}}}')
            yield _from_record(record, where, f"{path.stem}-{number}")


def _decoded(lines: Any, path: Path) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _from_record(record: dict[str, Any], where: str, default_name: str) -> UserDistribution:
    probs = record.pop("probs", None)
    ids = record.pop("ids", None)
    tokens = record.pop("tokens", None)
    name = str(record.pop("name", default_name))
    if isinstance(probs, dict) and ids is None and tokens is None:
        return UserDistribution(where, name, list(probs), list(probs.values()), record)
    chosen = tokens if ids is None else ids
    if not isinstance(probs, list) or not isinstance(chosen, list) or (tokens is not None and ids is not None):
        raise InputError(f'{where}: needs "probs" as an object of token to probability, or with a list of "tokens" or "ids"')
    if len(chosen) != len(probs):
        raise InputError(f"{where}: {len(chosen)} tokens but {len(probs)} probabilities")
    wanted = str if ids is None else int
    for token in chosen:
        if not isinstance(token, wanted) or isinstance(token, bool):
            raise InputError(f'{where}: {token!r} in "{"tokens" if ids is None else "ids"}" is not {_NAMES[wanted]}')
    return UserDistribution(where, name, list(chosen), probs, record)


_NAMES: dict[type, str] = {str: "a text", int: "a whole number"}


def _read_csv(path: Path) -> Iterator[UserDistribution]:
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(_decoded(lines, path))
        rows = ((f"{path}:{reader.line_num}", row) for row in reader)
        yield from _group_rows(rows, list(reader.fieldnames or []), path)


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
        raise InputError(f"{path}: needs the columns prob and token (or id), and name for several targets; has {columns}")
    found: dict[str, UserDistribution] = {}
    for where, row in rows:
        name = str(row.get("name") or path.stem)
        token = row[key]
        if key == "id":
            try:
                token = int(token)
            except (TypeError, ValueError) as error:
                raise InputError(f"{where}: id {token!r} is not a whole number") from error
        elif not isinstance(token, str):
            raise InputError(f"{where}: token {token!r} is not a text; use a column id for ids")
        entry = found.setdefault(name, UserDistribution(where, name, [], []))
        entry.tokens.append(token)
        entry.probs.append(row["prob"])
    if not found:
        raise InputError(f"{path}: holds no distribution")
    yield from found.values()
