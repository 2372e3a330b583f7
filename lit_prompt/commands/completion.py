"""``lit_prompt completion``: a script that completes commands, options and files in a shell."""

import argparse
import contextlib
import inspect
import typing
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import shtab

from lit_prompt.cli.arguments import RunArguments
from lit_prompt.cli.classes import concrete
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.cli.run import RunCLI
from lit_prompt.commands.options import TAKING_SETTINGS, parsers
from lit_prompt.models import PromptModule
from lit_prompt.pretrain.cli import PretrainCLI

# what may be a file may be a folder, too
_FILES = dict.fromkeys(("config", "ckpt_path", "lm", "out", "runs", "file", "data.texts.path"), shtab.FILE)
_FILES |= dict.fromkeys(
    ("run", "logs", "folder", "data.load", "model.out", "trainer.default_root_dir"), shtab.DIRECTORY
)


def run(options: Namespace) -> None:
    """Prints the script."""
    script = shtab.complete(_parser(), options.shell)
    # shtab gives zsh one argument where there may be more
    print(script.replace('"(*):', '"*:') if options.shell == "zsh" else script)


def _parser() -> argparse.ArgumentParser:
    """Every command with its options, the keys of settings among them."""
    parser = argparse.ArgumentParser("lit_prompt")
    commands = parser.add_subparsers()
    of_searches = _settings(PromptCLI, "fit", RunArguments([], [], ""))
    for name, about in PromptCLI.commands.items():
        _add_settings(commands.add_parser(name, help=_first(about)), of_searches[name], "run", "trust")
    pretrain = commands.add_parser("pretrain", help=_first(PretrainCLI.commands["fit"]))
    _add_settings(pretrain, _settings(PretrainCLI, RunArguments([], [], ""))["fit"], "run", "trust")
    of_targets = commands.add_parser("targets", help="Builds, shows or validates targets").add_subparsers()
    for name, known in parsers().items():
        group, _, command = name.rpartition(" ")
        one = (of_targets if group else commands).add_parser(
            command, help=_first(known.description or ""), parents=[known], add_help=False
        )
        if name in TAKING_SETTINGS:
            _add_settings(one, of_searches["fit"])
        for action in one._actions:
            if action.dest in _FILES:
                action.complete = _FILES[action.dest]  # type: ignore[attr-defined]
    return parser


def _first(about: str) -> str:
    return " ".join(about.partition(". ")[0].split())


def _settings(cli: type[RunCLI], *arguments: Any) -> dict[str, argparse.ArgumentParser]:
    """The settings' own parsers, by command; none of their settings is read."""
    found: dict[str, argparse.ArgumentParser] = {}

    class Read(Exception):
        pass

    class Asked(cli):  # type: ignore[misc, valid-type]
        def parse_arguments(self, *args: Any) -> None:
            found.update(self._subcommand_parsers)
            raise Read

    with contextlib.suppress(Read):
        Asked(*arguments)
    return found


def _add_settings(parser: argparse.ArgumentParser, settings: argparse.ArgumentParser, *others: str) -> None:
    """Adds the options of settings; those of a model are its classes' together."""
    keys: dict[str, Any] = dict.fromkeys(others)
    known = {option for action in settings._actions for option in action.option_strings}
    for action in settings._actions:
        # what another option sets has none of its own, and no help
        if f"--{action.dest}" in known and f"--{action.dest.removesuffix('.help')}" in known:
            keys |= {action.dest: getattr(action, "_typehint", None)}
            if not action.dest.endswith(".help"):
                keys |= dict(_model_keys(action.dest, getattr(action, "_typehint", None)))
    for key, annotation in keys.items():
        if f"--{key}" not in parser._option_string_actions:
            choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
            action = parser.add_argument(f"--{key}", choices=[*choices] or None)
            if key in _FILES:
                action.complete = _FILES[key]  # type: ignore[attr-defined]


def _model_keys(key: str, annotation: object) -> Iterator[tuple[str, Any]]:
    """The keys of all classes that a model may have, and of what kind their values are."""
    if PromptModule in typing.get_args(annotation):
        for owner in concrete([PromptModule]):
            for name, parameter in inspect.signature(owner).parameters.items():
                yield f"{key}.{name}", parameter.annotation
