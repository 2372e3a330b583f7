"""A target that a config or the command line states itself."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.families.from_file import FromFile
from lit_prompt.data.named_answers import NamedAnswers
from lit_prompt.data.target import Target, Texts
from lit_prompt.data.user_distribution import UserDistribution
from lit_prompt.data.user_facts import UserFacts
from lit_prompt.data.user_records import raise_error
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

_TOLERANCE = 1e-3


@dataclass
class Given(TargetFamily):
    """One target, stated by its answers and their probabilities.

    Answers of several tokens are told by all of their tokens, as the ``strings`` of a file are. The space before a word
    belongs to its answer.

    Attributes:
        probs: probability of each answer; they sum to 1 within 0.001, and are divided by their sum.
        before: text before the prompt; null for the module's.
        after: text after the prompt; null for the module's.
        end: what ends every answer, a text, or true for the LM's end token: needed where an answer begins another one.
        name: family name in ids, tables and plots.
    """

    takes_names = True

    probs: dict[str, float]
    before: str | None = None
    after: str | None = None
    end: bool | str | None = None
    name: str = "given"

    def __post_init__(self) -> None:
        for answer, prob in self.probs.items():
            if not 0.0 <= prob <= 1.0 + _TOLERANCE:
                raise InputError(f"family {self.name}: probability {prob:g} of {answer!r} is not between 0 and 1")
        total = math.fsum(self.probs.values())
        if abs(total - 1.0) > _TOLERANCE:
            raise InputError(
                f"family {self.name}: probs sum to {total:.6g}, not to 1 (within {_TOLERANCE:g}); give every answer "
                "its share"
            )

    def targets(self, vocabulary: Vocabulary | NamedAnswers) -> Iterator[Target]:
        """Yields the target."""
        facts = UserFacts.take({"end": self.end or None}, f"family {self.name}")
        entry = _Stated(
            place=f"family {self.name}", line=0, name="0", report=raise_error, strings=True,
            answers=[*self.probs], given=[*self.probs.values()], lines=[0] * len(self.probs),
            texts=Texts(self.before, self.after, None), facts=facts,
        )  # fmt: skip
        yield from FromFile(Path(), tolerance=_TOLERANCE, name=self.name).read_entries([entry], vocabulary)


class _Stated(UserDistribution):
    """A distribution that is in no file, so that it has no lines."""

    @property
    def where(self) -> str:
        return self.place

    def where_of(self, position: int) -> str:
        return self.place
