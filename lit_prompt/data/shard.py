"""The part of a work that a process begins with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lit_prompt.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of a work, the one with ``index`` (from 0)."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads ``3/16``, the third of sixteen.

        Raises:
            InputError: if it is none.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"data.shard is {text}; it must be 1/N to N/N, such as 3/16 for the third of 16 processes")
        return cls(int(match[1]) - 1, int(match[2]))

    def divided(self, index: int, count: int) -> "Shard":
        """One of ``count`` parts of this part."""
        return Shard(self.index + index * self.count, self.count * count)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this part."""
        return items[self.index :: self.count]

    def in_order(self, items: Sequence[T]) -> list[T]:
        """All items: those of this part, then those of the next parts in turn, each from its last one on.

        So processes whose parts are done come to different ones, and to what others would do last.
        """
        others = (Shard((self.index + ahead) % self.count, self.count) for ahead in range(1, self.count))
        return [*self.of(items), *(item for other in others for item in reversed(other.of(items)))]
