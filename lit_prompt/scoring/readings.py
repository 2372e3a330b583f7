"""What is read of an LM after a prompt in the contexts of its task, and how that makes the task's score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.scoring.slots import Member, Slots


class Found(NamedTuple):
    """Readings of some rows: of which rows, what, and where they are put."""

    row: Tensor
    what: Tensor
    column: Tensor

    def to(self, device: torch.device) -> "Found":
        """On a device."""
        return Found(*(x.to(device) for x in self))


class _Ragged:
    """Lists of pairs (what, column) under numbers."""

    def __init__(self, lists: Sequence[Sequence[tuple[int, int]]]) -> None:
        self._size = torch.tensor([len(each) for each in lists])
        self._start = self._size.cumsum(0) - self._size
        flat = [pair for each in lists for pair in each]
        self._pairs = torch.tensor(flat, dtype=torch.long).view(-1, 2)

    def of(self, keys: Tensor) -> Found:
        """The pairs of some lists, ``[row]``."""
        size = self._size[keys]
        row = torch.arange(len(keys)).repeat_interleave(size)
        offset = torch.arange(len(row)) - (size.cumsum(0) - size)[row]
        return Found(row, *self._pairs[self._start[keys][row] + offset].unbind(1))


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
        rows: how many contexts each task has, ``[task]``.
    """

    def __init__(self, slots: Slots, fluency: float) -> None:
        self._slots = slots
        self.rows = torch.tensor([len(numbers) for numbers in slots.of_task])
        self._first_row = self.rows.cumsum(0) - self.rows
        self._contexts = torch.tensor([number for numbers in slots.of_task for number in numbers])
        of_row: dict[str, list[list[tuple[int, int]]]] = {
            kind: [[] for _ in self._contexts] for kind in ("target", "token", "fluency")
        }
        self._columns: list[list[tuple[int, str, int]]] = []  # of each task: context, kind, what
        weights: list[list[float]] = []
        constants: list[float] = []
        self._cells: list[list[_Cells]] = []
        for task, members in enumerate(slots.members):
            columns: list[tuple[int, str, int]] = []
            mine: list[float] = []
            constants.append(0.0)
            self._cells.append([])
            for member in members:
                read = self._of_member(member, fluency)
                if member.tree is not None and not member.tree.is_additive:
                    first = len(columns) + len(read) - len(member.tree.token)
                    edges = torch.arange(first, len(columns) + len(read))
                    self._cells[-1].append(_Cells(member.tree, member.weight, edges))
                elif member.tree is not None:
                    constants[-1] -= member.weight * member.tree.entropy
                columns += [column for column, _ in read]
                mine += [weight for _, weight in read]
            for place, (context, kind, what) in enumerate(columns):
                row = int(self._first_row[task]) + slots.of_task[task].index(context)
                of_row[kind][row].append((what, place))
            self._columns.append(columns)
            weights.append(mine)
        self.width = max(map(len, weights))  #: columns of the task that has most
        self._weights = torch.tensor([mine + [0.0] * (self.width - len(mine)) for mine in weights])
        self._constants = torch.tensor(constants)
        self._of_row = {kind: _Ragged(lists) for kind, lists in of_row.items()}
        self.kinds = [kind for kind, lists in of_row.items() if any(lists)]

    def _of_member(self, member: Member, fluency: float) -> list[tuple[tuple[int, str, int], float]]:
        """Context, kind, what and weight of each reading of a target; those of its edges come last."""
        numbers = [self._slots.numbers[context] for context in member.contexts]
        read = [((numbers[0], "fluency", 0), member.weight * fluency)] if fluency else []
        if member.tree is None:
            return [*read, ((numbers[0], "target", member.target), member.weight)]
        tree, probs = member.tree, torch.zeros(len(member.tree.token), dtype=torch.float64)
        if tree.is_additive:
            probs = tree.edge_probs
        edges = zip(tree.node.tolist(), tree.token.tolist(), probs.tolist(), strict=True)
        return read + [((numbers[node], "token", token), -member.weight * p) for node, token, p in edges]

    @property
    def are_plain(self) -> bool:
        """Whether every score is a weighted sum."""
        return not any(self._cells)

    # ---- prompts for their own tasks ----

    def expanded(self, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Every context of some prompts' tasks: of which prompt each is, ``[row]``, and its row here, ``[row]``."""
        count = self.rows[tasks]
        prompt = torch.arange(len(tasks)).repeat_interleave(count)
        offset = torch.arange(len(prompt)) - (count.cumsum(0) - count)[prompt]
        return prompt, self._first_row[tasks][prompt] + offset

    def contexts(self, rows: Tensor) -> Tensor:
        """Numbers of the contexts of some rows, ``[row]``."""
        return self._contexts[rows]

    def of(self, kind: str, rows: Tensor) -> Found:
        """The readings of a kind in some rows."""
        return self._of_row[kind].of(rows)

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
        columns = {context: dict[tuple[str, int], int]() for context in contexts}
        for task in tasks:
            for context, kind, what in self._columns[task]:
                columns[context].setdefault((kind, what), len(columns[context]))
        width = max(map(len, columns.values()))
        places = [
            [contexts.index(context) * width + columns[context][kind, what] for context, kind, what in self._columns[t]]
            for t in tasks
        ]
        index = torch.tensor([place + place[:1] * (self.width - len(place)) for place in places])
        return SharedReadings(
            contexts,
            [_kinds(columns[context]) for context in contexts],
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
    read: list[dict[str, tuple[Tensor, Tensor]]]  #: by context and kind: what is read, and in which columns
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
    """Weighted sums over the last dimension, in which what has no weight may be infinite."""
    if values.shape[-1] == 1:
        return (values * weights).squeeze(-1)
    return torch.where(weights == 0.0, 0.0, values * weights).sum(-1)


def _of_cells(cells: Sequence[_Cells], values: Tensor) -> Tensor:
    return torch.stack([each.weight * each.tree.kl(values[..., each.columns]) for each in cells]).sum(0)


def _kinds(columns: dict[tuple[str, int], int]) -> dict[str, tuple[Tensor, Tensor]]:
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for kind in dict.fromkeys(kind for kind, _ in columns):
        mine = [(what, column) for (own, what), column in columns.items() if own == kind]
        what, column = torch.tensor(mine).unbind(1)
        found[kind] = (what, column)
    return found
