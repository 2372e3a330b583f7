"""A command's argument parser, whose errors are one line."""

import argparse
from pathlib import Path
from typing import NoReturn

from lit_prompt.errors import InputError


def user_path(text: str) -> Path:
    """A path as the user means it: a shell leaves the ``~`` of ``--out=~/floors.parquet`` to the command."""
    return Path(text).expanduser()


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    Args:
        command: the command's name after ``lit_prompt``.
        usage: its arguments.
        description: what it does.
        epilog: last lines of the help.
    """

    def __init__(self, command: str, usage: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"lit_prompt {command}",
            usage=f"lit_prompt {command} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print below its usage."""
        raise InputError(f"{self.prog.removeprefix('lit_prompt ')}: {message}; see {self.prog} --help")
