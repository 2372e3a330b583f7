"""What is read of an LM after a prompt in the contexts of its task, and how that makes the task's score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.scoring.slots import Member, Slots


class Found(NamedTuple):
    """Readings of some rows: of which rows, what, and where they are put."""

    row: Tensor
    what: Tensor
    column: Tensor


def _spread(size: Tensor) -> tuple[Tensor, Tensor]:
    """Of lists of so many items laid end to end, the list of each item and its place there, ``[item]`` both."""
    which = torch.arange(len(size)).repeat_interleave(size)
    return which, torch.arange(len(which)) - (size.cumsum(0) - size)[which]


class _Ragged:
    """Lists of pairs (what, column) under numbers."""

    def __init__(self, lists: Sequence[Sequence[tuple[int, int]]]) -> None:
        self._size = torch.tensor([len(each) for each in lists])
        self._start = self._size.cumsum(0) - self._size
        flat = [pair for each in lists for pair in each]
        self._pairs = torch.tensor(flat, dtype=torch.long).view(-1, 2)

    def of(self, keys: Tensor) -> Found:
        """The pairs of some lists, ``[row]``."""
        row, offset = _spread(self._size[keys])
        return Found(row, *self._pairs[self._start[keys][row] + offset].unbind(1))


class _Column(NamedTuple):
    """A reading of a task."""

    context: int  #: number of the context that goes through the LM
    back: int  #: positions before its end
    kind: str  #: ``target``: a divergence; ``token``: an edge's log-probability; ``fluency``
    what: int  #: number of the target, or the token


@dataclass(frozen=True)
class _Cells:
    """A target over cells of several answers, whose KL is no sum over its readings."""

    tree: AnswerTree
    weight: float
    columns: Tensor  #: of its edges


class Readings:
    """The readings of each task, a column each: a target's divergence, an edge's log-probability, the fluency.

    A score is their weighted sum, but for targets over cells of several answers.

    Args:
        slots: what is searched.
        fluency: weight of the prompt's own log-likelihood.

    Attributes:
        rows: how many contexts go through the LM for each task, ``[task]``.
        places: at most so many positions are read in a row, a prompt in a context.
    """

    def __init__(self, slots: Slots, fluency: float) -> None:
        self._slots = slots
        self.rows = torch.tensor([len(numbers) for numbers in slots.of_task])
        self._first_row = self.rows.cumsum(0) - self.rows
        self._contexts = torch.tensor([number for numbers in slots.of_task for number in numbers])
        self._columns: list[list[_Column]] = []  # of each task
        weights: list[list[float]] = []
        constants: list[float] = []
        self._cells: list[list[_Cells]] = []
        for task, members in enumerate(slots.members):
            columns: list[_Column] = []
            mine: list[float] = []
            constants.append(0.0)
            self._cells.append([])
            for member in members:
                read = self._of_member(task, member, fluency)
                if member.tree is not None and not member.tree.is_additive:
                    first = len(columns) + len(read) - len(member.tree.token)
                    edges = torch.arange(first, len(columns) + len(read))
                    self._cells[-1].append(_Cells(member.tree, member.weight, edges))
                elif member.tree is not None:
                    constants[-1] -= member.weight * member.tree.entropy
                columns += [column for column, _ in read]
                mine += [weight for _, weight in read]
            self._columns.append(columns)
            weights.append(mine)
        self.width = max(map(len, weights))  #: columns of the task that has most
        self._weights = torch.tensor([mine + [0.0] * (self.width - len(mine)) for mine in weights])
        self._constants = torch.tensor(constants)
        self._lay_out()

    def _of_member(self, task: int, member: Member, fluency: float) -> list[tuple[_Column, float]]:
        """The readings of a target, those of its edges last, and the weight of each."""
        places = [self._slots.place(task, context) for context in member.contexts]
        context, back = places[0]
        read = [(_Column(context, back, "fluency", 0), member.weight * fluency)] if fluency else []
        if member.tree is None:
            return [*read, (_Column(context, back, "target", member.target), member.weight)]
        tree, probs = member.tree, torch.zeros(len(member.tree.token), dtype=torch.float64)
        if tree.is_additive:
            probs = tree.edge_probs
        edges = zip(tree.node.tolist(), tree.token.tolist(), probs.tolist(), strict=True)
        return read + [
            (_Column(places[node][0], places[node][1], "token", token), -member.weight * p) for node, token, p in edges
        ]

    def _lay_out(self) -> None:
        """Numbers the places where a row is read, and lists what is read in each."""
        numbers: dict[tuple[int, int], int] = {}  # by row and positions before its end
        backs: list[list[tuple[int, int]]] = [[] for _ in self._contexts]
        of_place: dict[str, list[list[tuple[int, int]]]] = {"target": [], "token": [], "fluency": []}
        for task, columns in enumerate(self._columns):
            for number, column in enumerate(columns):
                row = int(self._first_row[task]) + self._slots.of_task[task].index(column.context)
                if (row, column.back) not in numbers:
                    numbers[row, column.back] = len(numbers)
                    backs[row].append((column.back, numbers[row, column.back]))
                    for lists in of_place.values():
                        lists.append([])
                of_place[column.kind][numbers[row, column.back]].append((column.what, number))
        self._places = _Ragged(backs)
        self._of_place = {kind: _Ragged(lists) for kind, lists in of_place.items()}
        self.kinds = [kind for kind, lists in of_place.items() if any(lists)]
        self.places = max(map(len, backs))

    @property
    def are_plain(self) -> bool:
        """Whether every score is a weighted sum."""
        return not any(self._cells)

    # ---- prompts for their own tasks ----

    def expanded(self, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Every context of some prompts' tasks: of which prompt each is, ``[row]``, and its row here, ``[row]``."""
        prompt, offset = _spread(self.rows[tasks])
        return prompt, self._first_row[tasks][prompt] + offset

    def contexts(self, rows: Tensor) -> Tensor:
        """Numbers of the contexts of some rows, ``[row]``."""
        return self._contexts[rows]

    def places_of(self, rows: Tensor) -> Found:
        """Where some rows are read: positions before their ends, and a number for each place."""
        return self._places.of(rows)

    def of(self, kind: str, places: Tensor) -> Found:
        """The readings of a kind in some places, given by their numbers."""
        return self._of_place[kind].of(places)

    def weights(self, tasks: Tensor) -> Tensor:
        """Of each column in the score, ``[prompt, column]``."""
        return self._weights[tasks]

    def scores(self, values: Float[Tensor, "prompt column"], tasks: Tensor) -> Float[Tensor, " prompt"]:
        """Scores from the readings of prompts, each for its task, ``[prompt]``; differentiable."""
        found = weighted(values, self._weights[tasks].to(values)) + self._constants[tasks].to(values)
        for task, cells in enumerate(self._cells):
            if cells and len(rows := (tasks == task).nonzero().flatten().to(values.device)):
                own = values[rows]
                found = found.index_add(0, rows, _of_cells(cells, own))
        return found

    # ---- prompts for all tasks with the same contexts ----

    def shared(self, group: Tensor) -> "SharedReadings":
        """What is read for all slots of a group, ``[slot]``."""
        tasks = self._slots.tasks[group].tolist()
        contexts = self._slots.of_task[tasks[0]]
        columns = {context: dict[_Column, int]() for context in contexts}
        for task in tasks:
            for column in self._columns[task]:
                columns[column.context].setdefault(column, len(columns[column.context]))
        width = max(map(len, columns.values()))
        places = [
            [contexts.index(column.context) * width + columns[column.context][column] for column in self._columns[task]]
            for task in tasks
        ]
        index = torch.tensor([place + place[:1] * (self.width - len(place)) for place in places])
        return SharedReadings(
            contexts,
            [_by_place(columns[context]) for context in contexts],
            width,
            index,
            self._weights[tasks],
            self._constants[tasks],
            [self._cells[task] for task in tasks],
        )


@dataclass(frozen=True)
class SharedReadings:
    """What is read after a prompt for all slots of a group."""

    contexts: list[int]  #: numbers of the group's contexts
    #: by context, positions before its end, and kind: what is read, and in which columns
    read: list[dict[int, dict[str, tuple[Tensor, Tensor]]]]
    width: int  #: columns of each context
    index: Tensor  #: where a slot's readings stand, ``[slot, column]``, contexts laid end to end
    weights: Tensor  #: ``[slot, column]``
    constants: Tensor  #: ``[slot]``
    cells: list[list[_Cells]]

    def scores(self, values: Float[Tensor, "prompt context column"]) -> Float[Tensor, "prompt slot"]:
        """Scores of prompts for every slot."""
        own = values.flatten(1)[:, self.index.to(values.device)]
        found = weighted(own, self.weights.to(own)) + self.constants.to(own)
        for place, cells in enumerate(self.cells):
            if cells:
                found[:, place] += _of_cells(cells, own[:, place])
        return found


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums over the last dimension, in which what has no weight may be infinite.

    More columns without a weight change nothing, not even the rounding: halves are added until one column is left.
    """
    if values.shape[-1] == 1:
        return (values * weights).squeeze(-1)
    terms = torch.where(weights == 0.0, 0.0, values * weights)
    while (count := terms.shape[-1]) > 1:
        half = 1 << (count - 1).bit_length() - 1
        terms = terms[..., :half] + nn.functional.pad(terms[..., half:], (0, 2 * half - count))
    return terms.squeeze(-1)


def _of_cells(cells: Sequence[_Cells], values: Tensor) -> Tensor:
    return torch.stack([each.weight * each.tree.kl(values[..., each.columns]) for each in cells]).sum(0)


def _by_place(columns: dict[_Column, int]) -> dict[int, dict[str, tuple[Tensor, Tensor]]]:
    found: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}
    for back, kind in dict.fromkeys((column.back, column.kind) for column in columns):
        mine = [(c.what, place) for c, place in columns.items() if (c.back, c.kind) == (back, kind)]
        what, place = torch.tensor(mine).unbind(1)
        found.setdefault(back, {})[kind] = (what, place)
    return found
