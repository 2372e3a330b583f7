"""Reading a user's distributions from JSONL, CSV or Parquet."""

import difflib
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.data.user_records import Record, Report, raise_error, read_objects, read_rows
from lit_prompt.errors import InputError

# columns of answers, and the keys under which an object lists them
_ANSWERS = {"token": "tokens", "string": "strings", "id": "ids"}
_COLUMNS = ("name", "prob", *_ANSWERS, "before", "after")
_KEYS = ("name", "probs", *_ANSWERS.values(), "context")


def read_distributions(path: Path, report: Report = raise_error) -> Iterator[UserDistribution]:
    """Reads the distributions of a file, those of JSONL one at a time.

    Args:
        path: ``.jsonl``: one object a line, ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}`` or with
            lists, ``{"tokens": [...], "probs": [...]}`` or ``{"ids": [...], "probs": [...]}``; ``"strings"`` in place
            of ``"probs"`` or ``"tokens"`` for texts of several tokens; ``"context"``: the text before the prompt, or
            ``{"before": ..., "after": ...}``. ``.csv`` and ``.parquet``: a row an answer, columns ``token``, ``id`` or
            ``string``, ``prob`` and, where there are several distributions, ``name``; ``before`` and ``after`` (an
            empty cell of CSV leaves the module's text).
        report: given each mistake. By default it raises; where it returns, reading continues with what follows.

    Raises:
        InputError: if the file is missing or malformed; the message names the line.
    """
    if not path.is_file():
        report(InputError(f"{path}: no such file; data.families' path is taken from the folder you are in"))
    elif path.suffix == ".jsonl":
        for line, record in read_objects(path, report):
            try:
                yield _of_object(line, record, path, report)
            except InputError as error:
                report(error)
    elif path.suffix in (".csv", ".parquet"):
        yield from _of_rows(path, report)
    else:
        report(InputError(f"{path}: the name must end in .jsonl, .csv or .parquet"))


def _of_object(line: int, record: dict[str, Any], path: Path, report: Report) -> UserDistribution:
    """The distribution of a JSON object, its answers as rows."""
    entry = UserDistribution(f"{path}:", line, str(record.pop("name", f"{path.stem}-{line}")), report)
    key, answers, probs = _take_answers(record, entry.where)
    entry.strings = key == "string"
    entry.add([(line, {key: answer, "prob": prob}) for answer, prob in zip(answers, probs, strict=True)], key)
    with entry.mistakes_reported():
        entry.before, entry.after = _context(record.pop("context", None), entry.where)
    entry.metadata = record
    entry.warnings = _misspelled(record, _KEYS, entry.where)
    for side in ("before", "after"):
        if side in record:
            entry.warnings.append(f'{entry.where}: {side!r} is not read here; write "context": {{"{side}": "..."}}')
    return entry


def _take_answers(record: dict[str, Any], where: str) -> tuple[str, list[Any], list[Any]]:
    """Takes out of an object which kind its answers are, the answers, and their probabilities."""
    given = {key: record.pop(listed) for key, listed in _ANSWERS.items() if record.get(listed) is not None}
    probs = record.pop("probs", None)
    if isinstance(probs, dict) and not given:
        return "token", list(probs), list(probs.values())
    if list(given) == ["string"] and isinstance(strings := given["string"], dict) and probs is None:
        return "string", list(strings), list(strings.values())
    key, answers = next(iter(given.items()), ("", None))
    if len(given) != 1 or not isinstance(probs, list) or not isinstance(answers, list):
        hint = "".join(f"; {warning.split('; ')[1]}" for warning in _misspelled(record, _KEYS, "")[:1])
        raise InputError(
            f'{where}: needs "probs" as an object of token to probability, or as a list beside a list of '
            f'"tokens" or "ids"; for texts of several tokens "strings" as such an object or list{hint}'
        )
    if len(answers) != len(probs):
        raise InputError(f"{where}: {len(answers)} {_ANSWERS[key]} but {len(probs)} probabilities")
    return key, answers, probs


def _context(given: Any, where: str) -> tuple[str | None, str | None]:
    """The texts before and after the prompt."""
    if given is None or isinstance(given, str):
        return given, None
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
    return given.get("before"), given.get("after")


def _of_rows(path: Path, report: Report) -> Iterator[UserDistribution]:
    """The distributions of rows, which need not follow one another."""
    found: dict[str, list[Record]] = {}
    try:
        columns, rows = read_rows(path)
        key = _answer_column(columns, path)
        for line, row in rows:
            name = path.stem if row.get("name") in (None, "") else str(row["name"])
            found.setdefault(name, []).append((line, row))
        if not found:
            raise InputError(f"{path}: holds no distribution")
    except InputError as error:
        report(error)
        if not found:
            return
    place, top = (f"{path}:", f"{path}:1") if path.suffix == ".csv" else (f"{path}: row ", str(path))
    entries = [UserDistribution(place, rows[0][0], name, report, key == "string") for name, rows in found.items()]
    for entry in entries:
        entry.add(found[entry.name], key)
    warnings = entries[0].warnings
    warnings += _misspelled([column for column in columns if column not in _COLUMNS], _COLUMNS, top)
    if "context" in columns:
        warnings.append(f"{top}: 'context' is not read; the columns for texts around the prompt are before and after")
    yield from entries


def _answer_column(columns: list[str], path: Path) -> str:
    given = [key for key in _ANSWERS if key in columns]
    if not given or "prob" not in columns:
        raise InputError(
            f"{path}: needs the columns prob and token (or id, or string for texts of several tokens), and name "
            f"for several targets; has {columns}"
        )
    if {"token", "string"} <= set(given):
        raise InputError(f"{path}: has both a column token and a column string; keep one of them")
    return given[0]


def _misspelled(keys: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """A warning for each key that nothing reads and that looks like a known one."""
    found = []
    for key in keys:
        # close enough for "prob" and "contxt"; "id" is a name of its own beside "ids"
        if near := difflib.get_close_matches(key.lower(), list(known), n=1, cutoff=0.85):
            found.append(f"{where}: {key!r} is not read; did you mean {near[0]!r}?")
    return found
