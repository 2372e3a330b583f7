"""A user's own targets."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.target import Target
from lit_prompt.data.user_file import UserDistribution, read_distributions
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

# A die written as 0.1667 six times sums to 1.0002; 0.17 six times is a mistake.
SUM_TOLERANCE = 1e-3


class FromFile(TargetFamily):
    """The user's own distributions over tokens, from JSONL, CSV or Parquet.

    A JSONL line is ``{"name": "coin", "probs": {" heads": 0.5, " tails": 0.5}}``; lists work too, as ``tokens`` (texts)
    or ``ids`` beside ``probs``. CSV and Parquet hold a row a token with the columns ``token`` or ``id``, ``prob`` and
    ``name``. The space before a word belongs to its token.

    Args:
        path: the file.
        rest: what happens to tokens that are not listed. ``zero``: none of the mass; the listed probabilities must sum
            to 1 within 0.001. ``spread``: what the listed probabilities leave of 1 is spread evenly over them.
        name: family name in ids, tables and plots.
    """

    def __init__(self, path: Path, rest: Literal["zero", "spread"] = "zero", name: str = "user") -> None:
        super().__init__(name)
        self.path = path
        self.rest = rest

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target]:
        """Yields the file's distributions in its order."""
        names: dict[str, str] = {}
        for entry in read_distributions(Path(self.path)):
            if entry.name in names:
                raise InputError(f"{entry.where}: the name {entry.name!r} was used before, at {names[entry.name]}")
            names[entry.name] = entry.where
            log_probs = self._log_probs(entry, vocabulary)
            target = Target.from_logits(f"{self.name}/{entry.name}", self.name, log_probs)
            target.metadata.update(entry.metadata)  # its keys are the user's: "seed" or "family" may be among them
            yield target
        if not names:
            raise InputError(f"{self.path}: holds no distribution")

    def _log_probs(self, entry: UserDistribution, vocabulary: Vocabulary) -> torch.Tensor:
        probs = torch.zeros(vocabulary.size, dtype=torch.float64)
        seen: set[int] = set()
        if not entry.tokens:
            raise InputError(f"{entry.where}: the distribution is empty")
        places = entry.places or [entry.where] * len(entry.tokens)
        for token, given, where in zip(entry.tokens, entry.probs, places, strict=True):
            token_id = vocabulary.checked_id(token, where)
            if token_id in seen:
                raise InputError(f"{where}: token {token!r} is listed twice")
            seen.add(token_id)
            probs[token_id] = _probability(given, token, where)
        total = float(probs.sum())
        rest = 1.0 - total
        all_listed = len(seen) == vocabulary.size
        if rest < -SUM_TOLERANCE or ((self.rest == "zero" or all_listed) and rest > SUM_TOLERANCE):
            hint = "" if rest < 0 or all_listed else "; to spread the rest over the other tokens set rest: spread"
            raise InputError(
                f"{entry.where}: probabilities of {entry.name!r} sum to {total:.6g}, not to 1 "
                f"(within {SUM_TOLERANCE}){hint}"
            )
        if self.rest == "spread" and not all_listed:
            unlisted = torch.ones(vocabulary.size, dtype=torch.bool)
            unlisted[list(seen)] = False
            probs[unlisted] = max(rest, 0.0) / int(unlisted.sum())
        if not float(probs.sum()) > 0.0:
            raise InputError(f"{entry.where}: all probabilities of {entry.name!r} are zero")
        return torch.where(probs > 0, probs.log(), -math.inf)


def _probability(given: Any, token: int | str, where: str) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: probability {given!r} of {token!r} is not a number") from error
    if not 0.0 <= value <= 1.0 + SUM_TOLERANCE:
        raise InputError(f"{where}: probability {value:g} of {token!r} is not between 0 and 1")
    return value
