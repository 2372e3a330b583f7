"""What a user's file says of a distribution beside its answers and the texts around its prompt."""

import math
import reprlib
from dataclasses import dataclass
from typing import Any

from lit_prompt.errors import InputError

_SPLITS = {"train": False, "test": True}


@dataclass(frozen=True)
class UserFacts:
    """Which task a distribution belongs to, and what ends its answers.

    Attributes:
        task: the user's name for the task; None for one of its own.
        weight: its share in the task, beside the others'.
        held_out: whether it is only evaluated, never searched for.
        end: what ends every answer: a text, or true for the LM's end token.
    """

    task: str | None = None
    weight: float = 1.0
    held_out: bool = False
    end: str | bool | None = None

    @classmethod
    def take(cls, record: dict[Any, Any], where: str) -> "UserFacts":
        """Takes ``task``, ``weight``, ``split`` and ``end`` out of a record; None stands for what is not given.

        Raises:
            InputError: if one of them is not what it must be; it names ``where`` the record is.
        """
        given = {key: record.pop(key, None) for key in KEYS}
        task, split, end = given["task"], given["split"], given["end"]
        if task is not None and (isinstance(task, bool) or not isinstance(task, str | int) or task == ""):
            raise InputError(f"{where}: task is {reprlib.repr(task)}; give the task's name, a text")
        if split is not None and (not isinstance(split, str) or split not in _SPLITS):
            raise InputError(
                f'{where}: split is {reprlib.repr(split)}; it is "train", or "test" for what is only evaluated'
            )
        if end is not None and end is not True and (not isinstance(end, str) or end == ""):
            raise InputError(
                f"{where}: end is {reprlib.repr(end)}; give the text that ends every answer, or true for the LM's end "
                "token"
            )
        weight = 1.0 if given["weight"] is None else _weight(given["weight"], where)
        return cls(None if task is None else str(task), weight, _SPLITS[split or "train"], end)


#: Keys, and columns, of these facts.
KEYS = ("task", "weight", "split", "end")


def _weight(given: Any, where: str) -> float:
    try:
        weight = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise InputError(f"{where}: weight is {reprlib.repr(given)}; it must be a positive number")
    return weight
