"""YAML as the settings' parser reads it, and written so that it reads back exactly."""

import re
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper

# everything else is quoted: YAML's versions differ in what they take for a number, a date or a truth value
_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)


class _ExactDumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml is untyped
    """Quotes a text unless it is a plain word or path; words such as ``yes`` are quoted all the same."""


def _represent(dumper: _ExactDumper, text: str) -> yaml.Node:
    text = str.__str__(text)  # of an enumeration's member its value
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_ExactDumper.add_representer(str, _represent)
_ExactDumper.add_multi_representer(str, _represent)


def read_yaml(text: str) -> Any:
    """What the settings' parser makes of a text.

    Raises:
        yaml.YAMLError: if it is no YAML.
    """
    return get_loader("yaml")(text)


def write_yaml(settings: Any, ascii_only: bool = False) -> str:
    """A text that :func:`read_yaml` turns into the same mappings, lists, texts, numbers, truth values and nulls."""
    # a folded text would not always read back
    layout: dict[str, Any] = {"sort_keys": False, "width": float("inf")}
    return yaml.dump(settings, Dumper=_ExactDumper, allow_unicode=not ascii_only, **layout)


set_dumper("yaml", write_yaml)  # what is saved, and what --print_config shows
