"""Answers of several tokens on the screen, as a tree of their tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_prompt.data.answers import Answers

_MOST = 8


@dataclass
class Branch:
    """Tokens that answers have in common, and what follows them."""

    text: str
    mass: float | None = None  #: probability of all answers that go on from here; None within a cell
    then: "list[Branch]" = field(default_factory=list)

    @property
    def line(self) -> str:
        """What is shown of it."""
        return self.text if self.mass is None else f"{self.text} {self.mass:.2g}"


def answer_branches(answers: "Answers", text_of: Callable[[int], str]) -> list[Branch]:
    """The likeliest answers, or cells, as trees of tokens.

    Args:
        answers: of a target.
        text_of: text of a token.
    """
    if len(answers.names) == len(answers.texts):
        masses = [answers.probs[cell] for cell in answers.cells]
        return _branches(answers.ids, masses, text_of, 0)
    found = []
    for cell in sorted(range(len(answers.names)), key=lambda cell: -answers.probs[cell]):
        ids = [ids for ids, mine in zip(answers.ids, answers.cells, strict=True) if mine == cell]
        found.append(Branch(f"cell {answers.names[cell]!r}", answers.probs[cell], _branches(ids, None, text_of, 0)))
    return _first(found, "cells")


def _branches(
    answers: Sequence[list[int]], masses: Sequence[float] | None, text_of: Callable[[int], str], depth: int
) -> list[Branch]:
    """Branches of answers that share their tokens up to a depth."""
    groups: dict[int, list[int]] = {}
    for i, ids in enumerate(answers):
        groups.setdefault(ids[depth], []).append(i)
    found = []
    for group in groups.values():
        mine = [answers[i] for i in group]
        own = None if masses is None else [masses[i] for i in group]
        end = depth + 1
        # tokens where nothing branches off stand in one line
        while all(len(ids) > end for ids in mine) and len({ids[end] for ids in mine}) == 1:
            end += 1
        text = " ".join(repr(text_of(token)) for token in mine[0][depth:end])
        then = _branches(mine, own, text_of, end) if len(mine) > 1 else []
        found.append(Branch(text, None if own is None else sum(own), then))
    if masses is not None:
        found.sort(key=lambda branch: -(branch.mass or 0.0))
    return _first(found, "answers")


def _first(branches: list[Branch], what: str) -> list[Branch]:
    if len(branches) <= _MOST:
        return branches
    rest = branches[_MOST:]
    mass = None if rest[0].mass is None else sum(branch.mass or 0.0 for branch in rest)
    return [*branches[:_MOST], Branch(f"... and {len(rest)} more {what}", mass)]
