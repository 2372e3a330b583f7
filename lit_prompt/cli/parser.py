"""A command's argument parser, whose errors are one line."""

import argparse
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from lit_prompt.errors import InputError


def user_path(text: str) -> Path:
    """A path as the user means it: a shell leaves the ``~`` of ``--out=~/floors.parquet`` to the command."""
    return Path(text).expanduser()


def check_command(name: str, commands: Iterable[str], of: str = "") -> None:
    """Refuses a command that does not exist.

    Args:
        name: as the user wrote it.
        commands: those that exist.
        of: beginning of the error.

    Raises:
        InputError: names all commands, and the nearest one.
    """
    commands = list(commands)
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{of}no command {name!r}{hint} (its commands are {', '.join(commands)})")


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    Args:
        command: the command's name after ``lit_prompt``.
        usage: its arguments.
        description: what it does.
        epilog: last lines of the help.
        **kwargs: of argparse's parser.
    """

    def __init__(self, command: str, usage: str = "", description: str = "", epilog: str = "", **kwargs: Any) -> None:
        super().__init__(
            prog=f"lit_prompt {command}",
            usage=f"lit_prompt {command} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print below its usage."""
        raise InputError(f"{self.prog.removeprefix('lit_prompt ')}: {message}; see {self.prog} --help")
