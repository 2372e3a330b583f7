"""Answers of several tokens, as targets store them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lit_prompt.functional.answer_tree import AnswerTree


@dataclass(frozen=True)
class Answers:
    """A distribution over answers, each any number of tokens, or over cells of them.

    Attributes:
        texts: of each answer, without what ends it.
        ids: tokens of each, with what ends it.
        cells: number of each answer's cell.
        names: of each cell; the answer's own text where a cell is a single one.
        probs: of each cell; they sum to 1.
        end: what ends every answer: a text, true for the LM's end token, None for nothing.
    """

    texts: list[str]
    ids: list[list[int]]
    cells: list[int]
    names: list[str]
    probs: list[float]
    end: str | bool | None = None

    @classmethod
    def of_cells(
        cls,
        names: Sequence[str],
        texts: Sequence[Sequence[str]],
        ids: Sequence[Sequence[list[int]]],
        weights: Sequence[float],
        end: str | bool | None = None,
    ) -> "Answers":
        """Answers of cells, each with its name, the texts and token ids of its answers, and a weight.

        The weights are divided by their sum; cells of weight zero are left out.
        """
        kept = [cell for cell, weight in enumerate(weights) if weight > 0.0]
        total = math.fsum(weights)
        return cls(
            texts=[text for cell in kept for text in texts[cell]],
            ids=[list(tokens) for cell in kept for tokens in ids[cell]],
            cells=[number for number, cell in enumerate(kept) for _ in texts[cell]],
            names=[names[cell] for cell in kept],
            probs=[weights[cell] / total for cell in kept],
            end=end,
        )

    @property
    def tree(self) -> AnswerTree:
        """The tree of their tokens."""
        return AnswerTree(self.ids, self.cells, self.probs)

    @property
    def first_tokens(self) -> dict[int, float]:
        """Probability of each first token; a cell's is divided evenly between its answers."""
        sizes = [self.cells.count(cell) for cell in range(len(self.names))]
        found: dict[int, float] = {}
        for ids, cell in zip(self.ids, self.cells, strict=True):
            found[ids[0]] = found.get(ids[0], 0.0) + self.probs[cell] / sizes[cell]
        return found

    def to_json(self) -> str:
        """As a text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Answers":
        """The answers of such a text."""
        return cls(**json.loads(text))
