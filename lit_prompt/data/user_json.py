"""Reading a user's distributions from JSON lines."""

import json
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_prompt.data.user_distribution import Report, UserDistribution, misspelled
from lit_prompt.errors import InputError

#: Bytes that are not UTF-8, as the error handler ``surrogateescape`` leaves them.
NOT_UTF8 = re.compile("[\udc80-\udcff]")
#: Halves of UTF-16 pairs, which JSON can escape one by one and no tokenizer takes.
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_KEYS = ("name", "probs", "tokens", "ids", "strings", "context")
_TYPES: dict[type, str] = {str: "a text", int: "a whole number"}


def read_jsonl(path: Path, report: Report) -> Iterator[UserDistribution]:
    """Reads a file line by line.

    Args:
        path: one object a line.
        report: given each mistake; where it returns, the reading goes on with the next line.
    """
    empty = True
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            empty = False
            try:
                yield _distribution(line, number, path, report)
            except InputError as error:
                report(error)
    if empty:
        report(InputError(f"{path}: holds no distribution"))


def _distribution(line: str, number: int, path: Path, report: Report) -> UserDistribution:
    where = f"{path}:{number}"
    if NOT_UTF8.search(line):
        raise InputError(f"{where}: not UTF-8 text; save the file as UTF-8")
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from error
    if "\\u" in line and _HALF_PAIR.search(json.dumps(record, ensure_ascii=False)):
        raise InputError(f"{where}: has half of a surrogate pair; write the character itself")
    if not isinstance(record, dict):
        raise InputError(f'{where}: not an object; write {{"probs": {{" yes": 0.7, " no": 0.3}}}}')
    entry = UserDistribution(f"{path}:", number, str(record.pop("name", f"{path.stem}-{number}")))
    kind = _answers(record, entry)
    wanted = int if kind == "ids" else str
    for i, answer in enumerate(entry.answers):
        if not isinstance(answer, wanted) or isinstance(answer, bool):
            entry.faulty, entry.answers[i] = True, None
            report(InputError(f'{where}: {reprlib.repr(answer)} in "{kind}" is not {_TYPES[wanted]}'))
    try:
        entry.before, entry.after = _context(record.pop("context", None), where)
    except InputError as error:
        entry.faulty = True
        report(error)
    entry.metadata = record
    entry.warnings = misspelled(record, _KEYS, where)
    for key in ("before", "after"):
        if key in record:
            entry.warnings.append(f'{where}: {key!r} is not read here; write "context": {{"{key}": "..."}}')
    return entry


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json by itself would keep the last of two equal keys and say nothing."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is listed twice")
        found[key] = value
    return found


def _answers(record: dict[str, Any], entry: UserDistribution) -> str:
    """Takes answers and probabilities out of a record; returns the key that the answers had."""
    given = {key: record.pop(key) for key in ("tokens", "ids", "strings") if record.get(key) is not None}
    probs = record.pop("probs", None)
    entry.strings = "strings" in given
    if isinstance(probs, dict) and not given:
        entry.answers, entry.probs = list(probs), list(probs.values())
        return "probs"
    if set(given) == {"strings"} and isinstance(given["strings"], dict) and probs is None:
        entry.answers, entry.probs = list(given["strings"]), list(given["strings"].values())
        return "strings"
    kind, answers = next(iter(given.items()), ("", None))
    if len(given) != 1 or not isinstance(probs, list) or not isinstance(answers, list):
        hint = "".join(f"; {warning.split('; ')[1]}" for warning in misspelled(record, _KEYS, "")[:1])
        raise InputError(
            f'{entry.where}: needs "probs" as an object of token to probability, or as a list beside a list of '
            f'"tokens" or "ids"; for texts of several tokens "strings" as such an object or list{hint}'
        )
    if len(answers) != len(probs):
        raise InputError(f"{entry.where}: {len(answers)} {kind} but {len(probs)} probabilities")
    entry.answers, entry.probs = answers, probs
    return kind


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
