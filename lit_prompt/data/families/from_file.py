"""A user's own targets."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lit_prompt.data.answer_ids import AnswerIds
from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.target import Target
from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.data.user_file import read_distributions
from lit_prompt.data.user_records import Report, raise_error
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

# A die written as 0.1667 six times sums to 1.0002; 0.17 six times is a mistake.
SUM_TOLERANCE = 1e-3


@dataclass
class FromFile(TargetFamily):
    """The user's own distributions over tokens, from JSONL, CSV or Parquet.

    A JSONL line is ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}``; lists work too, as ``tokens`` (texts)
    or ``ids`` beside ``probs``. CSV and Parquet hold a row a token with the columns ``token`` or ``id``, ``prob`` and
    ``name``. The space before a word belongs to its token.

    Answers of several tokens are ``{"strings": {" very satisfied": 0.4, " not at all": 0.6}}`` (a column ``string``);
    each stands for its first token, and those must differ. ``"context": {"before": "...", "after": "..."}`` (columns
    ``before`` and ``after``) is the text around this target's prompt, in place of the module's.

    Attributes:
        path: the file.
        rest: what happens to tokens that are not listed. ``zero``: none of the mass; the listed probabilities must sum
            to 1 within 0.001. ``spread``: what the listed probabilities leave of 1 is spread evenly over them.
        name: family name in ids, tables and plots.
    """

    path: Path
    rest: Literal["zero", "spread"] = "zero"
    name: str = "user"

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields the file's distributions in its order."""
        yield from self.read(vocabulary, raise_error)

    def read(
        self, vocabulary: Vocabulary, report: Report, warn: Callable[[str], None] | None = None
    ) -> Iterator[Target]:
        """Yields those distributions of the file that are in order.

        Args:
            vocabulary: what they are distributions over.
            report: given each mistake; where it returns, reading continues.
            warn: given what looks like a slip; by default that becomes a note of its target.
        """
        names: dict[str, str] = {}
        answer_ids = AnswerIds(vocabulary)
        for entry in read_distributions(Path(self.path), report):
            if warn is not None:
                for warning in entry.warnings:
                    warn(warning)
                entry.warnings = []
            target = self._target(entry, answer_ids, vocabulary)
            with entry.mistakes_reported():
                if (first := names.setdefault(entry.name, entry.where)) != entry.where:
                    raise InputError(f"{entry.where}: the name {entry.name!r} was used before, at {first}")
            if target is not None and not entry.faulty:
                yield target

    def _target(self, entry: UserDistribution, answer_ids: AnswerIds, vocabulary: Vocabulary) -> Target | None:
        """The target, or None; all that is wrong with it is reported."""
        well_read = not entry.faulty
        by_id: dict[int, int | str] = {}
        shared: dict[int, list[int | str]] = {}
        probs: list[float] = []
        for i, (answer, given) in enumerate(zip(entry.answers, entry.probs, strict=True)):
            if answer is None:
                continue  # reported when it was read
            where = entry.where_of(i)
            with entry.mistakes_reported():
                token_id = answer_ids(answer, entry.strings, where)
                if token_id not in by_id:
                    by_id[token_id] = answer
                elif by_id[token_id] == answer or not entry.strings:
                    raise InputError(f"{where}: {'string' if entry.strings else 'token'} {answer!r} is listed twice")
                else:
                    shared.setdefault(token_id, [by_id[token_id]]).append(answer)
            with entry.mistakes_reported():
                probs.append(_probability(given, answer, where))
        total = math.fsum(probs)
        with entry.mistakes_reported():
            if not entry.answers:
                raise InputError(f"{entry.where}: the distribution is empty")
            if shared:
                raise answer_ids.collision(entry, shared)
        with entry.mistakes_reported():
            if well_read and len(probs) == len(entry.probs) > 0:
                self._check_sum(entry, total, len(by_id) == len(vocabulary.defined_ids))
        if entry.faulty:
            return None
        ids, rest = list(by_id), max(1.0 - total, 0.0) if self.rest == "spread" else 0.0
        if rest:  # ids that stand for no token have no part in it
            without = [i for i in vocabulary.undefined_ids if i not in by_id]
            ids, probs = ids + without, probs + [0.0] * len(without)
        weights = torch.tensor(probs, dtype=torch.float64)
        target = Target.from_weights(
            f"{self.name}/{entry.name}", self.name, torch.tensor(ids), weights, vocabulary.size, rest
        )
        target.before, target.after = entry.before, entry.after
        target.metadata = entry.metadata  # its keys are the user's: "seed" or "family" may be among them
        if notes := entry.warnings + answer_ids.notes(entry, by_id):
            own = entry.metadata.get("note")
            target.metadata["note"] = "; ".join(notes + ([] if own is None else [str(own)]))
        return target

    def _check_sum(self, entry: UserDistribution, total: float, all_listed: bool) -> None:
        rest = 1.0 - total
        if rest < -SUM_TOLERANCE or (rest > SUM_TOLERANCE and (self.rest == "zero" or all_listed)):
            hint = "" if rest < 0 or all_listed else "; to spread the rest over the other tokens set rest: spread"
            raise InputError(
                f"{entry.where}: probabilities of {entry.name!r} sum to {total:.6g}, not to 1 "
                f"(within {SUM_TOLERANCE}){hint}"
            )


def _probability(given: Any, answer: int | str, where: str) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: probability {given!r} of {answer!r} is not a number") from error
    if not 0.0 <= value <= 1.0 + SUM_TOLERANCE:
        raise InputError(f"{where}: probability {value:g} of {answer!r} is not between 0 and 1")
    return value
