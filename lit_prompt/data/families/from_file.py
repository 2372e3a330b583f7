"""A user's own targets."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from lit_prompt.data.answer_ids import AnswerIds
from lit_prompt.data.answers import Answers
from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.named_answers import NamedAnswers
from lit_prompt.data.target import Target
from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.data.user_file import read_distributions
from lit_prompt.data.user_records import Report, raise_error
from lit_prompt.data.whole_answers import WholeAnswers
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

# A die written as 0.1667 six times sums to 1.0002; 0.17 six times is a mistake. Polls are rounded to whole percents.
_TOLERANCES = {"prob": 1e-3, "log_prob": 1e-3, "percent": 0.02}
_NAMES = {"prob": "probability", "log_prob": "log-probability", "percent": "percentage", "count": "count"}


@dataclass
class FromFile(TargetFamily):
    """The user's own distributions over tokens, from JSONL, CSV, Parquet or a folder of ``datasets``.

    A JSONL line is ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}``; lists work too, as ``tokens`` (texts)
    or ``ids`` beside ``probs``. CSV (commas, semicolons or tabs) and Parquet hold a row a token with the columns
    ``token`` or ``id``, ``prob`` and ``name``. The space before a word belongs to its token.

    In place of ``probs`` stand ``percent``, ``counts``, which are divided by their sum (with a note), or natural
    ``log_probs`` (columns ``percent``, ``count``, ``log_prob``).

    Answers of several tokens are ``{"strings": {" very satisfied": 0.4, " not at all": 0.6}}`` (a column ``string``).
    ``"cells": {"yes": [" yes", " Yes"], "no": [" no"]}`` beside ``"probs": {"yes": 0.6, "no": 0.4}`` gives sets of
    answers a probability each, divided within a set as the LM likes. No answer may begin another one; ``"end"`` (a
    column too) is what ends every answer, a text or true for the LM's end token.

    ``"context": {"before": "...", "after": "..."}`` (columns ``before`` and ``after``) is the text around this target's
    prompt, in place of the module's. ``"chat": [{"role": "system", "content": "{prompt}"}, {"role": "user", "content":
    "..."}]`` stands in its place for the LM's own chat template; a last message of the assistant begins its reply.

    Distributions with the same ``"task"`` (a column too) are searched for with one prompt; ``weight`` is a
    distribution's share in it (1 by default), and ``split``, ``train`` by default, is ``test`` for those that are only
    evaluated.

    Attributes:
        path: the file, or a folder that ``datasets``' save_to_disk wrote.
        rest: what happens to tokens that are not listed. ``zero``: none of the mass; the listed probabilities must sum
            to 1 within the tolerance, and are divided by their sum. ``spread``: what the listed probabilities leave of
            1 is spread evenly over them.
        tolerance: how far from 1 the sum may be; null for 0.001, and for ``percent``, which are rounded, 0.02.
        name: family name in ids, tables and plots.
        strings: what ``strings`` are. ``whole``: whole answers, by the chance of all of their tokens.
            ``first_tokens``: each stands for its first token, and those must differ.
    """

    takes_names = True

    path: Path
    rest: Literal["zero", "spread"] = "zero"
    tolerance: float | None = None
    name: str = "user"
    strings: Literal["whole", "first_tokens"] = "whole"

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0.0 <= self.tolerance < math.inf:
            raise InputError(f"family {self.name}: tolerance is {self.tolerance:g}; give a number of at least 0")

    def targets(self, vocabulary: Vocabulary | NamedAnswers) -> Iterator[Target]:
        """Yields the file's distributions in its order."""
        yield from self.read(vocabulary, raise_error)

    def read(
        self, vocabulary: Vocabulary | NamedAnswers, report: Report, warn: Callable[[str], None] | None = None
    ) -> Iterator[Target]:
        """Yields those distributions of the file that are in order.

        Args:
            vocabulary: what they are distributions over.
            report: given each mistake; where it returns, reading continues.
            warn: given what looks like a slip; by default that becomes a note of its target.
        """
        entries = read_distributions(Path(embedded(self.path)), report)
        yield from self.read_entries(entries, vocabulary, warn)

    def read_entries(
        self,
        entries: Iterable[UserDistribution],
        vocabulary: Vocabulary | NamedAnswers,
        warn: Callable[[str], None] | None = None,
    ) -> Iterator[Target]:
        """Yields those of some distributions that are in order; each reports its own mistakes."""
        names: dict[str, str] = {}
        readers = None
        if not isinstance(vocabulary, NamedAnswers):
            readers = _Readers(vocabulary, AnswerIds(vocabulary), WholeAnswers(vocabulary))
        for entry in entries:
            if warn is not None:
                for warning in entry.warnings:
                    warn(warning)
                entry.warnings = []
            target = self._target(entry, readers, vocabulary)
            with entry.mistakes_reported():
                if (first := names.setdefault(entry.name, entry.where)) != entry.where:
                    raise InputError(f"{entry.where}: the name {entry.name!r} was used before, at {first}")
            if target is not None and not entry.faulty:
                yield target

    def _target(
        self, entry: UserDistribution, read: "_Readers | None", vocabulary: Vocabulary | NamedAnswers
    ) -> Target | None:
        """The target, or None; all that is wrong with it is reported."""
        well_read = not entry.faulty
        with entry.mistakes_reported():
            self._check_kind(entry)
        answers = [] if read is None else self._answers(entry, read)
        probs = []
        for i, (answer, given) in enumerate(zip(entry.answers, entry.given, strict=True)):
            if answer is not None:  # else reported when it was read
                with entry.mistakes_reported():
                    probs.append(_share(given, entry.values, answer, entry.where_of(i)))
        total = math.fsum(probs)
        with entry.mistakes_reported():
            if not entry.answers:
                raise InputError(f"{entry.where}: the distribution is empty")
            if isinstance(answers, list) and self.rest == "spread":
                raise InputError(
                    f"{entry.where}: rest: spread is for tokens, not for the answers or cells of {entry.name!r}; set "
                    "rest: zero"
                )
        with entry.mistakes_reported():
            if well_read and len(probs) == len(entry.given) > 0:
                self._check_sum(entry, total, read is not None and len(answers) == len(read.vocabulary.defined_ids))
        target = None
        if isinstance(vocabulary, NamedAnswers):
            with entry.mistakes_reported():
                if self.strings == "first_tokens":
                    raise InputError(f"{entry.where}: first tokens of a served LM are not known; set strings: whole")
                if not entry.faulty:
                    target = vocabulary.target(f"{self.name}/{entry.name}", self.name, entry, probs)
        if entry.faulty:
            return None
        if target is None:
            assert isinstance(vocabulary, Vocabulary)
            if isinstance(answers, list):
                target = self._over_answers(entry, answers, probs, vocabulary)
            else:
                target = self._over_tokens(entry, list(answers), probs, total, vocabulary)
        target.before, target.after, target.chat = entry.texts
        target.task = None if entry.facts.task is None else f"{self.name}/{entry.facts.task}"
        target.weight, target.held_out = entry.facts.weight, entry.facts.held_out
        target.metadata = entry.metadata  # its keys are the user's, but for two: "seed" or "family" may be among them
        target.metadata.pop("first_tokens", None)
        notes = [*entry.warnings]
        if entry.values == "count":
            notes.append(f"{entry.where}: counts of {entry.name!r}, divided by their sum, {total:g}")
        if read is not None and entry.strings and isinstance(answers, dict):
            target.metadata["first_tokens"] = {answer: token_id for token_id, answer in answers.items()}
            notes = notes + read.first_tokens.notes(entry, answers)
        if notes:
            own = entry.metadata.get("note")
            target.metadata["note"] = "; ".join(notes + ([] if own is None else [str(own)]))
        return target

    def _check_kind(self, entry: UserDistribution) -> None:
        if entry.cells is not None and self.strings == "first_tokens":
            raise InputError(f"{entry.where}: cells are of whole answers; leave out strings: first_tokens")
        if entry.facts.end is not None and not entry.strings:
            raise InputError(f'{entry.where}: "end" ends answers; list them as "strings" or in "cells"')

    def _answers(self, entry: UserDistribution, read: "_Readers") -> dict[int, int | str] | list[list[list[int]]]:
        """Answers that are one token each, by their ids, or of each answer or cell the token ids of its answers."""
        if not entry.strings or (entry.cells is None and self.strings == "first_tokens"):
            return read.first_tokens.by_id(entry)
        groups = read.whole(entry)
        if entry.cells is None and all(len(ids) == 1 for group in groups for ids in group):
            known = zip(groups, entry.answers, strict=False)  # fewer where a mistake was reported
            return {group[0][0]: answer for group, answer in known if group and answer is not None}
        return groups

    def _over_answers(
        self, entry: UserDistribution, ids: list[list[list[int]]], probs: list[float], vocabulary: Vocabulary
    ) -> Target:
        names = [str(answer) for answer in entry.answers]
        texts = entry.cells or [[name] for name in names]
        answers = Answers.of_cells(names, texts, ids, probs, entry.facts.end)
        return Target.from_answers(f"{self.name}/{entry.name}", self.name, answers, vocabulary.size)

    def _over_tokens(
        self, entry: UserDistribution, ids: list[int], probs: list[float], total: float, vocabulary: Vocabulary
    ) -> Target:
        spread = self.rest == "spread" and entry.values != "count"
        rest = max(1.0 - total, 0.0) if spread else 0.0
        if rest:  # ids that stand for no token have no part in it
            listed = set(ids)
            without = [i for i in vocabulary.undefined_ids if i not in listed]
            ids, probs = ids + without, probs + [0.0] * len(without)
        weights = torch.tensor(probs, dtype=torch.float64)
        return Target.from_weights(
            f"{self.name}/{entry.name}", self.name, torch.tensor(ids), weights, vocabulary.size, rest
        )

    def _check_sum(self, entry: UserDistribution, total: float, all_listed: bool) -> None:
        if entry.values == "count":
            if total == 0.0:
                raise InputError(f"{entry.where}: all counts of {entry.name!r} are zero")
            return
        tolerance = _TOLERANCES[entry.values] if self.tolerance is None else self.tolerance
        rest = 1.0 - total
        if rest < -tolerance or (rest > tolerance and (self.rest == "zero" or all_listed)):
            hint = "" if rest < 0 or all_listed else "; to spread the rest over the other tokens set rest: spread"
            names = _NAMES[entry.values].removesuffix("y") + "ies" if "prob" in entry.values else "percentages"
            whole = 100 if entry.values == "percent" else 1
            raise InputError(
                f"{entry.where}: {names} of {entry.name!r} sum to {whole * total:.6g}, not to {whole} "
                f"(within {whole * tolerance:g}){hint}; for rounded values raise tolerance, for counts write "
                '"counts" (a column "count")'
            )


class _Readers(NamedTuple):
    """What finds the tokens of answers."""

    vocabulary: Vocabulary
    first_tokens: AnswerIds
    whole: WholeAnswers


def _share(given: Any, kind: str, answer: int | str, where: str) -> float:
    """A value on the scale of probabilities; a count as it is."""
    name = _NAMES[kind]
    try:
        value = float(given.removesuffix("%") if kind == "percent" and isinstance(given, str) else given)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {name} {given!r} of {answer!r} is not a number") from error
    if kind == "log_prob":
        if not value <= _TOLERANCES[kind]:
            raise InputError(f"{where}: {name} {value:g} of {answer!r} is not at most 0")
        return math.exp(value)
    if kind == "count":
        if not 0.0 <= value < math.inf:
            raise InputError(f"{where}: {name} {value:g} of {answer!r} is not a number of 0 or more")
        return value
    whole = 100 if kind == "percent" else 1
    if not 0.0 <= value <= whole * (1.0 + _TOLERANCES[kind]):
        raise InputError(f"{where}: {name} {value:g} of {answer!r} is not between 0 and {whole}")
    return value / whole
