"""``lit_prompt targets validate``: every mistake in a user's file."""

from argparse import Namespace
from collections.abc import Sequence

from lit_prompt.data.families import FromFile
from lit_prompt.data.target_set import TaskNames
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.lm import DEFAULT_LM, LMOptions, Vocabulary
from lit_prompt.results.console import say
from lit_prompt.results.targets_shown import print_remarks


def run(options: Namespace) -> None:
    """Prints every mistake in a file of targets, or what the file holds.

    Raises:
        SystemExit: with code 2 if there is a mistake.
    """
    path = options.file
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if options.tolerance is not None and not options.tolerance >= 0:
        raise InputError(f"--tolerance is {options.tolerance:g}; give a number of at least 0")
    lm_options = LMOptions(revision=options.revision, trust_remote_code=options.trust_remote_code == "true")
    vocabulary = Vocabulary.load(embedded(options.lm or DEFAULT_LM), lm_options)
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
    tasks = TaskNames()
    family = FromFile(path, options.rest, options.tolerance, strings=options.strings)
    for target in family.read(vocabulary, report, warn):
        entropies.append(target.entropy)
        tasks.add(target)
        if (note := target.metadata.get("note")) is not None:
            notes.append(f"{target.target_id}: {note}")
    if not mistakes:  # else a target that is wanting would count as missing
        try:
            tasks.check()
        except InputError as error:
            report(InputError(f"{path}: {error}"))
    print_remarks([], notes)
    found = f"{path}: {_count(entropies, 'target')} in order"
    if entropies:
        found += f", entropy {min(entropies):.3f} to {max(entropies):.3f} nats"
    say(f"{found}; {_count(mistakes, 'mistake')}, {_count(warnings, 'warning')}, {_count(notes, 'note')}")
    if mistakes:
        raise SystemExit(2)


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
