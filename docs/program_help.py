"""What the program says of itself, as pages: its help is never copied by hand."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from lit_prompt.commands.options import parsers
from lit_prompt.main import COMMANDS, main

_WIDTH = "100"


def write_helps(folder: Path) -> None:
    """Writes ``commands.md``, every command's help, and ``classes.md``, that of the classes which a config names."""
    os.environ["COLUMNS"] = _WIDTH
    folder.mkdir(parents=True, exist_ok=True)
    for name, sections in (("commands.md", _commands()), ("classes.md", _classes())):
        text = "\n".join(f"{'#' * level} {title}\n\n```text\n{said}\n```\n" for level, title, said in sections)
        if not (folder / name).exists() or (folder / name).read_text("utf-8") != text:
            (folder / name).write_text(text, "utf-8")


def help_of(*words: str) -> str:
    """What ``lit_prompt WORDS`` prints."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            main(words)
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"lit_prompt {' '.join(words)} ended with code {stop.code}") from None
    return re.sub(r" at 0x[0-9a-f]+", "", said.getvalue()).strip("\n")


def _commands() -> Iterator[tuple[int, str, str]]:
    yield 2, "lit_prompt", help_of("--help")
    of_targets = [name.partition(" ")[2] for name in parsers() if name.startswith("targets ")]
    for name in COMMANDS:
        yield 2, f"lit_prompt {name}", help_of(name, "--help")
        if name == "targets":
            for part in of_targets:
                yield 3, f"lit_prompt {name} {part}", help_of(name, part, "--help")


def _classes() -> Iterator[tuple[int, str, str]]:
    from lit_prompt import models, objectives
    from lit_prompt.data import families
    from lit_prompt.search import SEARCHERS

    for name in ("SoftPrompt", "HardPrompt", "TextPrompt"):
        assert name in models.__all__
        yield 2, name, help_of("fit", "--model.help", name)
    for name in (searcher.__name__ for searcher in SEARCHERS):
        yield 3, f"Searcher {name}", help_of("fit", "--model", "HardPrompt", "--model.searcher.help", name)
    for name in objectives.__all__:
        if name != "Objective":
            yield 3, f"Objective {name}", help_of("fit", "--model", "SoftPrompt", "--model.objective.help", name)
    for name in families.__all__:
        if name[0].isupper() and not name.endswith("Family"):
            yield 2, f"Targets {name}", help_of("fit", "--data.families.help", name)
