"""The classes that settings may name: those of modules that are let in, of the kind that their place is for."""

import collections.abc
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from jsonargparse import Namespace, set_parsing_settings

from lit_prompt.errors import InputError

#: Whose classes the config in a run's folder may name, beside those of modules that the command line trusts.
RUN_MODULES = ("lit_prompt", "lightning.pytorch", "lightning.fabric", "torch.optim")
#: How the message begins that a place does not take what is named.
REFUSED = "refused: "

_admitted: set[str] = set()  # by commands before, in this process
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+", re.ASCII)


def modules_named(settings: Any) -> set[str]:
    """The packages of everything in some settings that may be the path of a class; none of Python's own."""
    if isinstance(settings, (dict, list)):
        return set().union(*map(modules_named, settings.values() if isinstance(settings, dict) else settings))
    package = settings.partition(".")[0] if isinstance(settings, str) and _DOTTED.fullmatch(settings) else ""
    return {package} - {"", "jsonargparse"} - sys.stdlib_module_names


def admit_modules(named: Iterable[str]) -> None:
    """Lets the parser of settings import these modules and :data:`RUN_MODULES`, and no others.

    A class that is named where any value is taken is not made.

    Raises:
        InputError: if one of them cannot be a module's name.
    """
    named = set(named)
    try:
        set_parsing_settings(
            import_path_denylist=["*", *sorted(_admitted - named)],
            import_path_allowlist=[*RUN_MODULES, *sorted(named)],
            instantiate_subclass_spec_in_any=False,
        )
    except ValueError as error:
        raise InputError(f"--trust: {error}") from error
    _admitted.update(named)


def foreign_packages(settings: Any) -> list[str]:
    """The packages of the classes in some settings that a run's folder may not name by itself, but for its families."""
    if isinstance(settings, dict):
        path = settings.get("class_path")
        known = any(f"{path}.".startswith(f"{module}.") for module in RUN_MODULES)
        mine = [] if known or not isinstance(path, str) else [path.partition(".")[0]]
        return sorted({*mine, *chain(*(foreign_packages(settings[name]) for name in settings if name != "families"))})
    return sorted({*chain(*map(foreign_packages, settings))}) if isinstance(settings, list) else []


def refuse_others(value: Any, given: Any, annotation: Any) -> None:
    """Refuses what is named where a class is wanted and is none of its kind: another class, a function, an object.

    Nothing has been called by then.

    Args:
        value: what the parser made of a setting, in which a named class is a ``class_path``.
        given: what it made it of; objects that stand in it already are defaults.
        annotation: of the parameter.

    Raises:
        TypeError: names what can be chosen.
    """
    kinds = list(kinds_of(annotation))
    known = [id(x) for x in _leaves(given)]
    for leaf in _leaves(value):
        if isinstance(leaf, Namespace):
            named = loaded_object(leaf.class_path)
            fits = isinstance(named, type) and issubclass(named, tuple(kinds))
        else:
            named, fits = leaf, id(leaf) in known or not (_is_function(leaf) or isinstance(leaf, tuple(kinds)))
        if not fits:
            raise TypeError(f"{REFUSED}{_name(named)} is {_kind(named)}; {choices(kinds)}")


def loaded_object(path: str) -> Any:
    """What a dotted path names in a module that has been imported; None where there is none: nothing is imported."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _leaves(value: Any) -> Iterator[Any]:
    """What is in lists and mappings; a class and its settings are one."""
    if isinstance(value, Namespace) and "class_path" not in value:
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_function(x: Any) -> bool:
    return callable(x) and not isinstance(x, type)


def _name(x: Any) -> str:
    return f"{getattr(x, '__module__', '')}.{getattr(x, '__qualname__', type(x).__name__)}".strip(".")


def _kind(x: Any) -> str:
    return "of another kind" if isinstance(x, type) else "a function" if inspect.isroutine(x) else "no class"


def choices(kinds: Iterable[type]) -> str:
    """What can be named where classes of these kinds are wanted, for an error's last words."""
    names = sorted({choice.__name__ for choice in concrete(kinds)})
    if not names:
        return "a program may give one here, settings cannot"
    return f"choose {'one of ' if len(names) > 1 else ''}{', '.join(names)}"


def classes_of(annotation: Any) -> Iterator[type]:
    """The classes in an annotation; of a callable's those that it returns."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is collections.abc.Callable:
        arguments = arguments[1:]
    elif isinstance(annotation, type) and not arguments:
        yield annotation
    for argument in arguments:
        yield from classes_of(argument)


def kinds_of(annotation: Any) -> Iterator[type]:
    """Those of :func:`classes_of` of which a setting names a subclass: others, a path or a tensor, are values."""
    bases = (base for base in classes_of(annotation) if base.__module__ != "torch")
    return (base for base in bases if base.__module__.partition(".")[0] not in ("builtins", "pathlib"))


def concrete(bases: Iterable[type]) -> Iterator[type]:
    """The public subclasses that can be made."""
    for base in bases:
        subclasses: list[type] = base.__subclasses__()
        for subclass in subclasses:
            if not (inspect.isabstract(subclass) or subclass.__name__.startswith("_")):
                yield subclass
        yield from concrete(subclasses)
