"""The one true cause in a settings parser's error, and the nearest key or class that the user may have meant."""

import collections.abc
import difflib
import inspect
import pydoc
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from jsonargparse import ArgumentParser

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
    named = [pydoc.locate(path) for path in re.findall(r"class_path[ =]'([\w.]+)'", message)]
    owners = [owner for owner in named if isinstance(owner, type)]
    options = {action.dest: action for action in parser._actions if f"--{action.dest}" in action.option_strings}
    if found := re.search(r"Option '([\w.]+)' is not accepted", message):
        nearest = _nearest(found[1], inspect.signature(owners[-1]).parameters)
        return f"{where}: {owners[-1].__name__} has no key {found[1]!r}{nearest}"
    if found := re.search(r"unrecognized arguments: --(\d+\.[\w.]+)", message):
        return f"unknown option ending in .{found[1]}; a list (data.families, say) is changed in the config file"
    if found := re.search(r"(?:does not accept (option) '|unrecognized arguments: --)([\w.]+)", message):
        name = f"key {found[2]!r}" if found[1] else f"option --{found[2]}"
        return f"unknown {name}{_nearest(found[2], [*options, 'run'])}"
    if found := re.search(r"argument (?:-\w/)?--([\w.+]+): expected one argument", message):
        return f"--{found[1]} has no value; one that begins with a dash stands behind an equals sign: --KEY=-VALUE"
    value = re.search(r"(?:Got|Given) value: (.+?)(?:\. Got value.*)?$", message, re.MULTILINE)
    missing = r"import path string: (\S+)|but (\w*) ?is abstract|class_path '([\w.]+)':\s+(?:m|No m)odule "
    if found := re.search(missing, message):
        hints = typing.get_type_hints(inspect.getattr_static(owners[-1], "__init__")) if owners else {}
        annotation = hints.get(keys[-1]) if owners else getattr(options[keys[-1]], "_typehint", None)
        bases = list(_classes(annotation))
        if not {int, float} & set(bases):
            name = next(filter(None, found.groups()), value[1] if value else "")
            return f"{where}: no class {name!r}{_nearest(name, (owner.__name__ for owner in concrete(bases)))}"
    wanted = re.findall(r"Expected a (.+?)\. Got value: |Subtypes: \[(.+)\]", message)
    if wanted and value:  # the innermost of both
        names = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", "".join(wanted[-1])).replace("typing.", "")
        if names in ("str", "str, NoneType", "NoneType, str", TEXT_OR_ID):  # a text would have been taken
            return f"{where}: YAML reads a value as {value[1]} where a text is wanted; put it between quotes"
        return f"{where}: {value[1]!r} is not of the type {names}"
    return " ".join(message.split())


def _nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the name, or the key by its last part, that is nearest."""
    others = [other for other in names if other != name]  # it may be another command's
    leaf = {other.rpartition(".")[2]: other for other in reversed(others)}
    last = name.rpartition(".")[2]
    close = difflib.get_close_matches(name, others, n=1) + difflib.get_close_matches(last, leaf, n=1)
    return f"; did you mean {leaf.get(close[0], close[0])!r}?" if close else ""


def _classes(annotation: Any) -> Iterator[type]:
    """The classes in an annotation; of a callable's those that it returns."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is collections.abc.Callable:
        arguments = arguments[1:]
    elif isinstance(annotation, type) and not arguments:
        yield annotation
    for argument in arguments:
        yield from _classes(argument)


def concrete(bases: Iterable[type]) -> Iterator[type]:
    """The public subclasses that can be made."""
    for base in bases:
        subclasses: list[type] = base.__subclasses__()
        for subclass in subclasses:
            if not (inspect.isabstract(subclass) or subclass.__name__.startswith("_")):
                yield subclass
        yield from concrete(subclasses)
