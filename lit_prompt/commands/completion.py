"""``lit_prompt completion``: a script that completes commands, options and files in a shell."""

import argparse
import inspect
import typing
from argparse import Namespace

import lightning as L
import shtab

from lit_prompt.callbacks.checkpoint import SearchCheckpoint
from lit_prompt.cli.prompt import PromptCLI
from lit_prompt.commands.options import TAKING_SETTINGS, parsers
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.lm import LMOptions
from lit_prompt.models import HardPrompt, SoftPrompt
from lit_prompt.pretrain import CausalLMTraining, TextDataModule
from lit_prompt.pretrain.cli import PretrainCLI

_FILES = {"config": shtab.FILE, "ckpt_path": shtab.FILE, "data.load": shtab.DIRECTORY}
_FILES |= dict.fromkeys(("run", "logs", "lm", "out", "runs", "folder", "trainer.default_root_dir"), shtab.DIRECTORY)
_LINKED = ("data.lm", "data.lm_options")  # set by --lm
_SETTINGS: dict[str, list[type]] = {"checkpoint": [SearchCheckpoint], "trainer": [L.Trainer]}
_OF_SEARCHES = _SETTINGS | {"model": [SoftPrompt, HardPrompt], "data": [TargetDataModule], "lm_options": [LMOptions]}
_OF_PRETRAIN = _SETTINGS | {"model": [CausalLMTraining], "data": [TextDataModule]}


def run(options: Namespace) -> None:
    """Prints the script."""
    print(shtab.complete(_parser(), options.shell))


def _parser() -> argparse.ArgumentParser:
    """Every command with its options, the keys of settings among them."""
    parser = argparse.ArgumentParser("lit_prompt")
    commands = parser.add_subparsers()
    for name, about in PromptCLI.commands.items():
        _add_settings(commands.add_parser(name, help=_first(about)), _OF_SEARCHES, "run", "ckpt_path", "lm")
    pretrain = commands.add_parser("pretrain", help=_first(PretrainCLI.commands["fit"]))
    _add_settings(pretrain, _OF_PRETRAIN, "run", "ckpt_path")
    of_targets = commands.add_parser("targets", help="Builds, shows or validates targets").add_subparsers()
    for name, known in parsers().items():
        group, _, command = name.rpartition(" ")
        one = (of_targets if group else commands).add_parser(
            command, help=_first(known.description or ""), parents=[known], add_help=False
        )
        if name in TAKING_SETTINGS:
            _add_settings(one, _OF_SEARCHES, "lm")
        for action in one._actions:
            if action.dest in _FILES:
                action.complete = _FILES[action.dest]  # type: ignore[attr-defined]
    return parser


def _first(about: str) -> str:
    return " ".join(about.partition(". ")[0].split())


def _add_settings(parser: argparse.ArgumentParser, settings: dict[str, list[type]], *others: str) -> None:
    """Adds the keys of settings; those of the model are its classes' together."""
    keys: dict[str, list[str] | None] = dict.fromkeys(("config", "logs", "print_config", *others))
    for group, owners in settings.items():
        for owner in owners:
            for name, parameter in inspect.signature(owner).parameters.items():
                choices = typing.get_args(parameter.annotation) if _is_choice(parameter.annotation) else ()
                keys[f"{group}.{name}"] = [*choices] or None
    for key, known in keys.items():
        if f"--{key}" not in parser._option_string_actions and key not in _LINKED:
            action = parser.add_argument(f"--{key}", choices=known)
            if key in _FILES:
                action.complete = _FILES[key]  # type: ignore[attr-defined]


def _is_choice(annotation: object) -> bool:
    return typing.get_origin(annotation) is typing.Literal
