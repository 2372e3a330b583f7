"""A command's argument parser, whose errors are one line."""

import argparse
from typing import NoReturn

from lit_prompt.errors import InputError


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
