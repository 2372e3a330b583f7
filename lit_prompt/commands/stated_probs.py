"""What is stated of a target on the command line: answers, each with its share."""

import math
import re
from collections.abc import Sequence

from lit_prompt.errors import InputError

_TOLERANCES = {"probabilities": 1e-3, "percentages": 0.02}


def stated_probs(stated: Sequence[str]) -> dict[str, float]:
    """Answers and their probabilities, which sum to 1, from ``TEXT=P`` each.

    A text may hold ``=`` itself: the last one counts. All shares are probabilities, or percentages with ``%``, or
    counts: whole numbers that do not sum to 1.

    >>> stated_probs([" heads=3", " tails=1"])
    {' heads': 0.75, ' tails': 0.25}

    Raises:
        InputError: if one of them is not of that form or listed twice, or they do not sum to a whole.
    """
    texts, shares = zip(*map(_split, stated), strict=True)
    for text in texts:
        if texts.count(text) > 1:
            raise InputError(f"--target: the answer {text!r} is listed twice")
    percent = [share.endswith("%") for share in shares]
    if any(percent) and not all(percent):
        one, other = (shares[percent.index(kind)] for kind in (True, False))
        raise InputError(f"--target: {one} is a percentage and {other} is none; give all of one kind")
    values = [_value(*pair) for pair in zip(texts, shares, strict=True)]
    total = math.fsum(values)
    if all(re.fullmatch(r"\d+", share) for share in shares) and total != 1:
        if total == 0:
            raise InputError("--target: all counts are zero; give at least one answer a share")
    else:
        kind = "percentages" if percent[0] else "probabilities"
        if abs(total - 1) > _TOLERANCES[kind]:
            whole = 100 if percent[0] else 1
            raise InputError(
                f"--target: {kind} sum to {whole * total:.6g}, not to {whole} (within "
                f"{whole * _TOLERANCES[kind]:g}); give every answer its share, or whole numbers as counts"
            )
    return {text: value / total for text, value in zip(texts, values, strict=True)}


def _split(stated: str) -> tuple[str, str]:
    text, equals, share = stated.rpartition("=")
    if not equals or not text:
        raise InputError(f"--target: {stated!r} is no TEXT=P; give an answer and its share, such as ' heads=0.5'")
    return text, share.strip()


def _value(text: str, share: str) -> float:
    try:
        value = float(share.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InputError(
            f"--target: the share {share!r} of {text!r} is not a number of 0 or more; give a probability, a percentage "
            "(50%) or a count"
        )
    return value / 100 if share.endswith("%") else value
