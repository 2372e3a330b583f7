"""The one true cause in a settings parser's error, and the nearest key or class that the user may have meant."""

import contextlib
import difflib
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lit_prompt.cli.arguments import Config
from lit_prompt.cli.classes import REFUSED, choices, classes_of, concrete, kinds_of, loaded_object
from lit_prompt.cli.near_options import classes_taken, nearest_option
from lit_prompt.cli.text_options import TEXT_OR_ID


def explain(message: str, parser: ArgumentParser) -> str:
    """Turns an error of jsonargparse, which tells of every type that was tried, into one line.

    Args:
        message: the error's message.
        parser: of the command's settings.

    Returns:
        Where, what is wrong and, for a name that does not exist, the nearest one that does.
    """
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    keys = keys[1:] if keys[:1] == ["config"] else keys  # whose text is parsed
    where = ".".join(keys)
    named = {path: loaded_object(path) for path in re.findall(r"class_path[ =]'([\w.]+)'", message)}
    owners = [owner for owner in named.values() if isinstance(owner, type)]
    options = {action.dest: action for action in parser._actions if f"--{action.dest}" in action.option_strings}
    if found := re.search(f"{REFUSED}(.+)$", message, re.MULTILINE):
        return f"{where}: {found[1]}"
    if found := re.search(r"Importing '([\w.]+)' is not allowed", message):
        return f"{where}: {found[1]} {_denied(found[1])}"
    if function := next((path for path, owner in named.items() if inspect.isroutine(owner)), None):
        return f"{where}: {function} is a function where a class is wanted"
    if (found := re.search(r"Option '([\w.]+)' is not accepted", message)) and owners:
        nearest = _nearest(found[1], inspect.signature(owners[-1]).parameters)
        return f"{where}: {owners[-1].__name__} has no key {found[1]!r}{nearest}"
    if found := re.search(r"unrecognized arguments: --(\d+\.[\w.]+)", message):
        return f"unknown option ending in .{found[1]}; a list (data.families, say) is changed in the config file"
    value = re.search(r"(?:Got|Given) value: (.+?)(?:\. Got value.*)?$", message, re.MULTILINE)
    if (found := re.search(r"unrecognized arguments: --([\w.]+)", message)) and owners:
        return f"unknown option --{where}.{found[1]}{nearest_option(f'{where}.{found[1]}', {where: owners[-1]})}"
    found = re.match(r"NestedArg\(key='([\w.]+)'", value[1]) if value else None
    if found and not f"{found[1]}.".startswith(f"{'.'.join(keys[1:])}."):  # an option of a place that has none
        kinds = list(classes_taken(_annotation(keys[-1], owners, options)))
        if any(concrete(kinds)):
            return f"--{where}.{found[1]} needs a class, as --{where} gives one; {choices(kinds)}"
        known = {keys[0]: owners[0]} if owners else {}
        return f"unknown option --{where}.{found[1]}{nearest_option(f'{where}.{found[1]}', known)}"
    if found := re.search(r"(?:does not accept (option) '|(Option) '|unrecognized arguments: --)([\w.]+)", message):
        name = f"key {found[3]!r}" if found[1] or found[2] else f"option --{found[3]}"
        hints = {name: getattr(action, "_typehint", None) for name, action in options.items()}
        return f"unknown {name}{nearest_option(found[3], {**hints, 'run': None})}"
    if found := re.search(r"argument (?:-\w/)?--([\w.+]+): expected one argument", message):
        return f"--{found[1]} has no value; one that begins with a dash stands behind an equals sign: --KEY=-VALUE"
    missing = r"import path string: (\S+)|but (\w*) ?is abstract|class_path '([\w.]+)':\s+(?:m|No m)odule "
    other = r"(?:Import path |Expected ')([\w.]+)'? (?:does not correspond to|to be) a"
    if found := re.search(f"{missing}|{other}", message):
        annotation = _annotation(keys[-1], owners, options)
        bases = list(kinds_of(annotation))
        if not {int, float} & set(classes_of(annotation)):
            name = next(filter(None, found.groups()), value[1] if value else "")
            what = f"{name} is of another kind" if found[4] else f"no class {name!r}"
            near = _nearest(name, (owner.__name__ for owner in concrete(bases)))
            return f"{where}: {what}{near} ({choices(bases)})" if near else f"{where}: {what}; {choices(bases)}"
    wanted = re.findall(r"Expected a (.+?)\. Got value: |Subtypes: \[(.+)\]", message)
    if wanted and value:  # the innermost of both
        names = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", "".join(wanted[-1])).replace("typing.", "")
        if names in ("str", "str, NoneType", "NoneType, str", TEXT_OR_ID):  # a text would have been taken
            return f"{where}: YAML reads a value as {value[1]} where a text is wanted; put it between quotes"
        kinds = list(kinds_of(_annotation(keys[-1], owners, options) if keys else None))
        hint = f"; {choices(kinds)}" if any(concrete(kinds)) else ""
        return f"{where}: {value[1]!r} is not of the type {names}{hint}"
    return " ".join(message.split())


def not_made(message: str) -> str | None:
    """Which class could not be made, and why, in a line; None where an error is about something else."""
    found = re.search(r"Problem with given class_path '(?:[\w.]+\.)?(\w+)':\s+(.+)$", message, re.MULTILINE)
    return None if found is None else f"{found[1]} cannot be made: {found[2]}"


def _annotation(key: str, owners: Sequence[type], options: Mapping[str, Any]) -> Any:
    """Of a parameter of the innermost class that has it, or of an option."""
    for owner in reversed(owners):
        with contextlib.suppress(NameError):  # an annotation that only a type checker can read
            hints = typing.get_type_hints(inspect.getattr_static(owner, "__init__"))
            if key in hints:
                return hints[key]
    return getattr(options.get(key), "_typehint", None)


def _denied(name: str) -> str:
    package, _, last = name.partition(".")
    if last in ("yaml", "yml", "json") or package in sys.stdlib_module_names or package == "jsonargparse":
        return "is no class that a setting may name"
    return f"is not imported because a run's folder names it; where you trust {package}, add --trust {package}"


def _nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the name, or the key by its last part, that is nearest."""
    others = [other for other in names if other != name]  # it may be another command's
    leaf = {other.rpartition(".")[2]: other for other in reversed(others)}
    last = name.rpartition(".")[2]
    close = difflib.get_close_matches(name, others, n=1) + difflib.get_close_matches(last, leaf, n=1)
    return f"; did you mean {leaf.get(close[0], close[0])!r}?" if close else ""


def file_of(message: str, configs: Sequence[Config], typed: Sequence[str]) -> Path | None:
    """The config file that an error is about, by the key that it begins with.

    Args:
        message: the error's.
        configs: the files; later ones win.
        typed: the options on the command line, which win over those; what one of them says is in no file.
    """
    found = re.match(r"(?:unknown key '|--)?([a-z_]\w*(?:\.\w+)*)['\s:]", message)
    if found is None or any(option.lstrip("-").startswith(found[1].partition(".")[0]) for option in typed):
        return None
    keys = found[1].split(".")
    return next((config.path for config in reversed(configs) if _holds(config.settings, keys)), None)


def _holds(settings: Any, keys: Sequence[str]) -> bool:
    """Whether settings say something of a key, which is written without its ``init_args``."""
    if not keys:
        return True
    if isinstance(settings, list):
        return any(_holds(item, keys) for item in settings)
    if not isinstance(settings, dict):
        return False
    return _holds(settings.get("init_args"), keys) or (keys[0] in settings and _holds(settings[keys[0]], keys[1:]))
