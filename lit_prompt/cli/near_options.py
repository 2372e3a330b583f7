"""The options that a command has, and the one that is nearest to what was typed."""

import collections.abc
import difflib
import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lit_prompt.cli.classes import concrete, kinds_of

_NEAR = 0.6  # of difflib's ratio, as in its own search for close matches
_DEPTH = 3  # parts of a name beyond the place's own: a start's texts' path


def options_below(place: str, kinds: Iterable[type], depth: int = _DEPTH) -> Iterator[str]:
    """The dotted names of the settings that classes take at a place, and of those of the classes that these take."""
    for kind in kinds:
        try:
            hints = typing.get_type_hints(inspect.getattr_static(kind, "__init__"))
        except (NameError, TypeError):  # only a type checker can read them, or there are none
            continue
        for name in hints.keys() - {"return"}:
            yield f"{place}.{name}"
            if depth > 1:
                yield from options_below(f"{place}.{name}", classes_taken(hints[name]), depth - 1)


def nearest_option(name: str, options: Mapping[str, Any]) -> str:
    """A hint at the option that was meant; empty where none is near.

    An option is near that ends with the name; or that has as many parts and, behind those that are the same, looks
    alike; or, for a name of one part, whose last one looks alike.

    Args:
        name: what was typed, without dashes.
        options: those that there are, and the annotation of each, whose classes have options of their own; or None.
    """
    options = {option: annotation for option, annotation in options.items() if not option.endswith(".help")}
    names = {
        below for option, annotation in options.items() for below in options_below(option, classes_taken(annotation))
    }
    others = sorted({*names, *options} - {name})  # what was typed may be another command's
    found = sorted((other for other in others if other.endswith(f".{name}")), key=lambda other: other.count("."))
    if not found:
        depth = name.count(".")
        closeness = {other: _closeness(name, other) for other in others if other.count(".") == depth}
        if not depth:
            closeness |= {other: _closeness(name, other.rpartition(".")[2]) for other in others if "." in other}
        found = sorted((other for other in closeness if closeness[other] >= _NEAR), key=lambda other: -closeness[other])
    return f"; did you mean {found[0]!r}?" if found else ""


def classes_taken(annotation: Any) -> Iterator[type]:
    """The classes of which one can be chosen for an option; what a list holds has no options of its own."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    for member in typing.get_args(annotation) if union else [annotation]:
        if typing.get_origin(member) in (None, collections.abc.Callable):
            kinds = list(kinds_of(member))
            yield from dict.fromkeys([*kinds, *concrete(kinds)])


def _closeness(name: str, other: str) -> float:
    """How alike two names of as many parts are behind the parts that are the same."""
    parts = list(zip(name.split("."), other.split("."), strict=True))
    while parts and parts[0][0] == parts[0][1]:
        parts = parts[1:]
    left, right = (".".join(part) for part in zip(*parts, strict=True)) if parts else ("", "")
    return difflib.SequenceMatcher(None, left, right).ratio()
