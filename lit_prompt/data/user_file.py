"""Reading a user's distributions from JSONL, CSV, Parquet or a folder of ``datasets``."""

import difflib
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lit_prompt.data.target import Texts
from lit_prompt.data.user_cells import UserCells
from lit_prompt.data.user_distribution import SHARED, UserDistribution
from lit_prompt.data.user_facts import KEYS, UserFacts
from lit_prompt.data.user_records import VALUES, Record, Report, raise_error, read_objects, read_rows
from lit_prompt.errors import InputError
from lit_prompt.lm import chat_json

# columns of answers, and the keys under which an object lists them
_ANSWERS = {"token": "tokens", "string": "strings", "id": "ids"}
# columns of values, and the keys under which an object lists them
_VALUES = dict(zip(VALUES, ("probs", "percent", "counts", "log_probs"), strict=True))
_COLUMNS = ("name", "prob", *_ANSWERS, *SHARED)
_KEYS = ("name", "probs", *_ANSWERS.values(), "cells", "context", "chat", *KEYS)
_TABLES = (".csv", ".tsv", ".parquet")


def read_distributions(path: Path, report: Report = raise_error) -> Iterator[UserDistribution]:
    """Reads the distributions of a file, those of JSONL one at a time.

    Args:
        path: ``.jsonl``: one object a line, ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}`` or with
            lists, ``{"tokens": [...], "probs": [...]}`` or ``{"ids": [...], "probs": [...]}``; ``"strings"`` in place
            of ``"probs"`` or ``"tokens"`` for texts of several tokens, ``"cells"`` beside ``"probs"`` for sets of them;
            ``"context"``: the text before the prompt, or ``{"before": ..., "after": ...}``; ``"chat"``: messages in
            its place; and those of :class:`UserFacts`. ``.csv`` (commas, semicolons or tabs), ``.tsv`` and
            ``.parquet``: a row an answer, columns ``token``, ``id`` or ``string``, ``prob`` and, where there are
            several distributions, ``name``; ``before`` and ``after`` (an empty cell of CSV leaves the module's text),
            and again those facts. ``percent``, ``counts`` (a column ``count``) or ``log_probs`` (``log_prob``) take
            the place of ``probs`` (``prob``). A folder that ``datasets``' save_to_disk wrote, and Parquet, hold such
            rows or such objects.
        report: given each mistake. By default it raises; where it returns, reading continues with what follows.

    Raises:
        InputError: if the file is missing or malformed; the message names the line.
    """
    if path.is_file() and path.suffix.lower() == ".jsonl":
        yield from _of_objects(read_objects(path, report), f"{path}:", path, report)
    elif path.is_dir() or (path.is_file() and path.suffix.lower() in _TABLES):
        yield from _of_table(path, report)
    elif path.exists():
        report(
            InputError(
                f"{path}: the name must end in .jsonl, .csv, .tsv or .parquet, or be a folder that datasets' "
                "save_to_disk wrote"
            )
        )
    else:
        report(InputError(f"{path}: no such file; data.families' path is taken from the folder you are in"))


def _of_table(path: Path, report: Report) -> Iterator[UserDistribution]:
    """The distributions of a table: a row an answer, or, with lists in its cells, a row a distribution."""
    try:
        columns, rows = read_rows(path)
    except InputError as error:
        report(error)
        return
    is_text = path.suffix.lower() in (".csv", ".tsv")
    place = f"{path}:" if is_text else f"{path}: row "
    if not is_text and set(columns) & {*_VALUES.values(), "strings", "cells"} and not set(columns) & {*_ANSWERS}:
        # a table has a cell for each of its columns, and one of an object for each key of any row
        objects = ((line, {key: _filled(cell) for key, cell in row.items() if cell is not None}) for line, row in rows)
        yield from _of_objects(objects, place, path, report)
    else:
        yield from _of_rows(columns, rows, place, path, report)


def _filled(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_filled(value) for value in cell]
    return {key: value for key, value in cell.items() if value is not None} if isinstance(cell, dict) else cell


def _of_objects(objects: Iterable[Record], place: str, path: Path, report: Report) -> Iterator[UserDistribution]:
    for line, record in objects:
        try:
            yield _of_object(line, record, place, path, report)
        except InputError as error:
            report(error)


def _of_object(line: int, record: dict[str, Any], place: str, path: Path, report: Report) -> UserDistribution:
    """The distribution of an object, its answers as rows."""
    entry = UserDistribution(place, line, str(record.pop("name", f"{path.stem}-{line}")), report)
    key, entry.values, answers, given = _take_answers(record, entry)
    entry.strings = key in ("string", "cell")
    rows = [(line, {key: answer, entry.values: value}) for answer, value in zip(answers, given, strict=True)]
    entry.add(rows, key)
    with entry.mistakes_reported():
        entry.facts = UserFacts.take(record, entry.where)
    with entry.mistakes_reported():
        entry.texts = _texts(record.pop("context", None), record.pop("chat", None), entry.where)
    entry.metadata = record
    entry.warnings = _misspelled(record, _KEYS, entry.where)
    for side in ("before", "after"):
        if side in record:
            entry.warnings.append(f'{entry.where}: {side!r} is not read here; write "context": {{"{side}": "..."}}')
    return entry


def _take_answers(record: dict[str, Any], entry: UserDistribution) -> tuple[str, str, list[Any], list[Any]]:
    """Takes out of an object which kind its answers and its values are, the answers or names of cells, the values."""
    where, cells = entry.where, record.pop("cells", None)
    given = {key: record.pop(listed) for key, listed in _ANSWERS.items() if record.get(listed) is not None}
    found = {kind: record.pop(listed) for kind, listed in _VALUES.items() if record.get(listed) is not None}
    if len(found) > 1:
        both = " and ".join(f'"{_VALUES[kind]}"' for kind in found)
        raise InputError(f"{where}: has {both}; keep one of them")
    kind, values = next(iter(found.items()), ("prob", None))
    if cells is not None:
        if given:
            raise InputError(f'{where}: has "cells" and "{_ANSWERS[next(iter(given))]}"; keep one of them')
        found_cells = UserCells.read(cells, values, _VALUES[kind], where)
        entry.cells = found_cells.answers
        return "cell", kind, found_cells.names, found_cells.given
    if isinstance(values, dict) and not given:
        return "token", kind, list(values), list(values.values())
    if list(given) == ["string"] and isinstance(strings := given["string"], dict) and values is None:
        return "string", kind, list(strings), list(strings.values())
    key, answers = next(iter(given.items()), ("", None))
    if len(given) != 1 or not isinstance(values, list) or not isinstance(answers, list):
        hint = "".join(f"; {warning.split('; ')[1]}" for warning in _misspelled(record, _KEYS, "")[:1])
        raise InputError(
            f'{where}: needs "probs" ("percent", "counts", "log_probs") as an object of token to probability, or as a '
            f'list beside a list of "tokens" or "ids"; for texts of several tokens "strings" as such an object or '
            f"list{hint}"
        )
    if len(answers) != len(values):
        name = "probabilities" if kind == "prob" else _VALUES[kind]
        raise InputError(f"{where}: {len(answers)} {_ANSWERS[key]} but {len(values)} {name}")
    return key, kind, answers, values


def _texts(given: Any, chat: Any, where: str) -> Texts:
    """What stands around the prompt."""
    if chat is not None:
        if given is not None:
            raise InputError(f'{where}: has "context" and "chat"; keep one of them')
        return Texts(None, None, chat_json(chat, where))
    if given is None or isinstance(given, str):
        return Texts(given, None, None)
    if not isinstance(given, dict):
        raise InputError(
            f'{where}: "context" is {reprlib.repr(given)}; give the text before the prompt, or an object with '
            '"before" and "after"'
        )
    for key, text in given.items():
        if key not in ("before", "after"):
            raise InputError(f'{where}: "context" has no key {key!r}; its keys are "before" and "after"')
        if not isinstance(text, str):
            raise InputError(f'{where}: "{key}" in "context" is {reprlib.repr(text)}, not a text')
    return Texts(given.get("before"), given.get("after"), None)


def _of_rows(
    columns: list[str], rows: Iterable[Record], place: str, path: Path, report: Report
) -> Iterator[UserDistribution]:
    """The distributions of rows, which need not follow one another."""
    found: dict[str, list[Record]] = {}
    try:
        key, kind = _answer_columns(columns, path)
        for line, row in rows:
            name = path.stem if row.get("name") in (None, "") else str(row["name"])
            found.setdefault(name, []).append((line, row))
        if not found:
            raise InputError(f"{path}: holds no distribution")
    except InputError as error:
        report(error)
        if not found:
            return
    top = f"{place}1" if place.endswith(":") else str(path)
    entries = [UserDistribution(place, own[0][0], name, report, key == "string", kind) for name, own in found.items()]
    for entry in entries:
        entry.add(found[entry.name], key)
    warnings = entries[0].warnings
    warnings += _misspelled([column for column in columns if column not in (*_COLUMNS, kind)], _COLUMNS, top)
    if "context" in columns:
        warnings.append(f"{top}: 'context' is not read; the columns for texts around the prompt are before and after")
    if "chat" in columns or "cells" in columns:
        warnings.append(f"{top}: chats and cells are not read from a row an answer; write them as JSONL")
    yield from entries


def _answer_columns(columns: list[str], path: Path) -> tuple[str, str]:
    """The column of answers, and that of their values."""
    given, kinds = ([key for key in known if key in columns] for known in (_ANSWERS, _VALUES))
    if not given or not kinds:
        raise InputError(
            f"{path}: needs the columns prob (or percent, count, log_prob) and token (or id, or string for texts of "
            f"several tokens), and name for several targets; has {columns}"
        )
    for both in (given if {"token", "string"} <= set(given) else [], kinds):
        if len(both) > 1:
            raise InputError(f"{path}: has both a column {both[0]} and a column {both[1]}; keep one of them")
    return given[0], kinds[0]


def _misspelled(keys: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """A warning for each key that nothing reads and that looks like a known one."""
    found, names = [], list(known)
    for key in keys:
        near = [name for name in names if sorted(name) == sorted(key.lower())]  # "spilt" is not close enough
        # close enough for "prob" and "contxt"; "id" is a name of its own beside "ids"
        if near := near or difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.85):
            found.append(f"{where}: {key!r} is not read; did you mean {near[0]!r}?")
    return found
