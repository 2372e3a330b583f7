"""A command's argument parser, and what is said of its arguments, in one line."""

import argparse
import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from lit_prompt.errors import InputError


def as_utf8(argument: str) -> str:
    """An argument as it was typed: in a locale that is not UTF-8 Python leaves the bytes that it cannot read.

    Raises:
        InputError: if it is not UTF-8.
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise InputError(
            f"an argument is not UTF-8: {argument.encode('utf-8', 'backslashreplace').decode()}"
        ) from error


def user_path(text: str) -> Path:
    """A path as the user means it: a shell leaves the ``~`` of ``--out=~/floors.parquet`` to the command."""
    return Path(os.path.expanduser(text))


def check_command(name: str, commands: Iterable[str], of: str = "") -> None:
    """Refuses a command that does not exist.

    Raises:
        InputError: begins with ``of``; names all commands, and the nearest one.
    """
    commands = list(commands)
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{of}no command {name!r}{hint} (its commands are {', '.join(commands)})")


@contextmanager
def writing(out: Path, advice: str = "") -> Iterator[None]:
    """Says of a place that cannot be written that ``--out`` named it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written ({error.strerror}){advice}") from error


class CommandParser(argparse.ArgumentParser):
    """An argparse parser for what follows ``lit_prompt COMMAND``, whose errors are one line."""

    def __init__(self, command: str, usage: str = "", **kwargs: Any) -> None:
        prog = f"lit_prompt {command}"
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, f"{prog} {usage}", formatter_class=layout, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print below its usage."""
        raise InputError(f"{self.prog.removeprefix('lit_prompt ')}: {message}; see {self.prog} --help")
