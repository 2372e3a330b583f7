"""The one true cause in a parser's error, and the nearest key or class that the user may have meant."""

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping

_CLASS_KEYS = ("model", "searcher", "families", "optimizer", "scheduler", "callbacks", "logger")


def explain(message: str, groups: Mapping[str, type]) -> str:
    """Turns an error of jsonargparse, which tells of every type that was tried, into one line.

    Args:
        message: the parser's message.
        groups: the command's groups of keys, such as ``data``, and the classes whose parameters they are.

    Returns:
        Where, what is wrong and, for a name that does not exist, the nearest one that does.
    """
    where = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    owner = re.findall(r"class_path '([\w.]+)'", message) + re.findall(r"Namespace\(class_path='([\w.]+)'", message)
    if found := re.search(r"Option '([\w.]+)' is not accepted", message):
        nearest = _nearest(found[1], _parameters(_imported(owner[-1])))
        return f"{where}: {owner[-1].rpartition('.')[2]} has no key {found[1]!r}{nearest}"
    if found := re.search(r"does not accept option '([\w.]+)'", message):
        return f"unknown key {found[1]!r}{_nearest(found[1], _keys(groups))}"
    if found := re.search(r"unrecognized arguments: --(\d+\.[\w.]+)", message):
        return f"unknown option ending in .{found[1]}; a list (data.families, say) is changed in the config file"
    if found := re.search(r"unrecognized arguments: --([\w.]+)", message):
        return f"unknown option --{found[1]}{_nearest(found[1], _keys(groups))}"
    if found := re.search(r"Expected a (.+?)\. Got value: (.+)", message):
        wanted = re.sub(r"<class '(\w+)'>", r"\1", found[1]).replace("typing.", "")
        return f"{where}: {found[2]!r} is not of the type {wanted}"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        if where.rpartition(".")[2] not in _CLASS_KEYS:
            return f"{where}: {found[1]!r} is not of the type that this key takes"
        return f"{where}: no class {found[1]!r}{_nearest(found[1], _classes())}"
    if found := re.search(r"File does not exist: '?([^'\n]+)'?", message):
        return f"no file {found[1]}; name an existing config with --config"
    return " ".join(message.split())


def _nearest(name: str, names: list[str]) -> str:
    leaf: dict[str, str] = {}
    names = [candidate for candidate in names if candidate != name]  # another command's key
    for candidate in names:
        leaf.setdefault(candidate.rpartition(".")[2], candidate)
    close = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name, list(leaf), n=1)
    if not close:
        return ""
    return f"; did you mean {leaf.get(close[0], close[0])!r}?"


def _imported(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _parameters(owner: type) -> list[str]:
    """Parameters of a class."""
    return [p for p in inspect.signature(owner).parameters if p != "self"]


def _keys(groups: Mapping[str, type]) -> list[str]:
    """All keys that a command takes."""
    nested = [f"{group}.{name}" for group, owner in groups.items() for name in _parameters(owner)]
    return ["config", "run", "lm", "ckpt_path", "print_config", "seed_everything", *groups, *nested]


def _classes() -> list[str]:
    """Names that a config may use without their module, and torch's optimizers."""
    import torch

    from lit_prompt.cli import SHORTHAND

    optimizers = [f"torch.optim.{name}" for name, cls in vars(torch.optim).items() if isinstance(cls, type)]
    return [cls.__name__ for cls in SHORTHAND] + optimizers
