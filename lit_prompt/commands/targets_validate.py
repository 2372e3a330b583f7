"""``lit_prompt targets validate``: every mistake in a user's file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lit_prompt.data.families import FromFile
from lit_prompt.errors import InputError
from lit_prompt.lm import DEFAULT_LM, LMOptions, Vocabulary
from lit_prompt.results.console import say
from lit_prompt.results.targets_shown import print_remarks


def validate_file(
    path: Path, rest: Literal["zero", "spread"], lm: str | None, revision: str | None, trust_remote_code: bool
) -> None:
    """Prints every mistake in a file of targets, or what the file holds.

    Args:
        path: JSONL, CSV or Parquet.
        rest: what happens to tokens that are not listed.
        lm: LM whose tokens the targets name, of which the tokenizer alone is loaded; None for the embedded Llama.
        revision: of the LM, on the hub.
        trust_remote_code: whether the tokenizer may be a program of its own.

    Raises:
        InputError: if there is no such file or LM.
        SystemExit: with code 2 if there is a mistake.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    vocabulary = Vocabulary.load(lm or DEFAULT_LM, LMOptions(revision=revision, trust_remote_code=trust_remote_code))
    mistakes: list[InputError] = []
    warnings: list[str] = []

    def report(error: InputError) -> None:
        mistakes.append(error)
        say(str(error))

    def warn(warning: str) -> None:
        warnings.append(warning)
        say(f"{warning} (warning)")

    entropies: list[float] = []
    notes: list[str] = []
    for target in FromFile(path, rest).read(vocabulary, report, warn):
        entropies.append(target.entropy)
        if (note := target.metadata.get("note")) is not None:
            notes.append(f"{target.target_id}: {note}")
    print_remarks([], notes)
    found = f"{path}: {_count(entropies, 'target')} in order"
    if entropies:
        found += f", entropy {min(entropies):.3f} to {max(entropies):.3f} nats"
    say(f"{found}; {_count(mistakes, 'mistake')}, {_count(warnings, 'warning')}, {_count(notes, 'note')}")
    if mistakes:
        raise SystemExit(2)


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
