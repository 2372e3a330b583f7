"""What is searched side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.scoring.context import Context


@dataclass(frozen=True)
class Member:
    """A target of a task."""

    target: int  #: its row among the targets
    context: Context  #: the texts around the prompt
    weight: float = 1.0  #: share in the task; those of a task sum to 1
    tree: AnswerTree | None = None  #: where it is over answers

    @cached_property
    def contexts(self) -> list[Context]:
        """Where the LM is asked for its next token: after the prompt and, of answers, after the beginnings of them."""
        if self.tree is None:
            return [self.context]
        inner = self.tree.prefixes[1:]
        around = self.context
        longer = ((around.after_ids + tuple(prefix), len(prefix)) for prefix in inner)
        return [around, *(replace(around, after_ids=ids, own=True, answer=answer) for ids, answer in longer)]


def longest(contexts: Sequence[Context]) -> dict[Context, Context]:
    """For each of some contexts the longest one that begins with it: the LM's state after it is one on the way.

    Both differ in the beginning of an answer alone.
    """
    found: dict[Context, Context] = {}
    for context in dict.fromkeys(contexts):
        longer = [c for c in contexts if c.before_ids == context.before_ids and _goes_on(c, context.after_ids)]
        found[context] = max(longer, key=lambda c: len(c.after_ids))
    return found


def _key(context: Context) -> tuple[Any, ...]:
    texts = context.before, context.after, context.chat or ""
    return context.before_ids, context.after_ids, context.answer, *texts, context.own


def _goes_on(context: Context, ids: tuple[int, ...]) -> bool:
    return context.after_ids[: len(ids)] == ids and len(context.after_ids) - context.answer <= len(ids)


@dataclass(frozen=True)
class Slots:
    """A place for a prompt for each task and restart, the restarts of a task side by side."""

    task_ids: Sequence[str]
    members: Sequence[Sequence[Member]]  #: the targets of each task
    restarts: int = 1  #: slots of each task
    apart: int = 1  #: restarts of a task that stand here as so many tasks, as they have targets of their own

    def __len__(self) -> int:
        return len(self.task_ids) * self.restarts

    def task(self, slot: int) -> int:
        """Index of a slot's task."""
        return slot // self.restarts

    def restart(self, slot: int) -> int:
        """Number of a slot's restart."""
        return slot % (self.restarts * self.apart)

    def name(self, slot: int) -> str:
        """Id of a slot's task."""
        return self.task_ids[self.task(slot)]

    def targets(self, slot: int) -> Sequence[Member]:
        """The targets of a slot's task."""
        return self.members[self.task(slot)]

    @cached_property
    def tasks(self) -> Tensor:
        """Index of each slot's task, ``[slot]``."""
        return torch.arange(len(self)) // self.restarts

    @cached_property
    def _read_in(self) -> list[dict[Context, Context]]:
        """By task, the context in whose pass through the LM each of the task's contexts is read."""
        return [longest([c for m in members for c in m.contexts]) for members in self.members]

    @cached_property
    def contexts(self) -> list[Context]:
        """All contexts that go through the LM, each once; they hold those that they begin with.

        Their order, in which a prompt's rows are summed, follows from themselves: whatever else is searched, it is the
        same for those of a task.
        """
        return sorted({whole for of in self._read_in for whole in of.values()}, key=_key)

    @cached_property
    def numbers(self) -> dict[Context, int]:
        """The place of each context among :attr:`contexts`."""
        return {context: number for number, context in enumerate(self.contexts)}

    @cached_property
    def of_task(self) -> list[list[int]]:
        """Numbers of the contexts that go through the LM for each task, rising."""
        return [sorted({self.numbers[whole] for whole in of.values()}) for of in self._read_in]

    def place(self, task: int, context: Context) -> tuple[int, int]:
        """Where a context of a task is read: in which pass, and so many positions before its end."""
        whole = self._read_in[task][context]
        return self.numbers[whole], len(whole.after_ids) - len(context.after_ids)

    def contexts_of(self, slot: int) -> list[Context]:
        """The contexts that go through the LM for a slot's task."""
        return [self.contexts[number] for number in self.of_task[self.task(slot)]]

    @cached_property
    def group(self) -> Tensor:
        """Number of each slot's group, ``[slot]``.

        Slots of one group have equal contexts and are of the same restart: a prompt of one is a prompt of all.
        """
        numbers: dict[tuple[tuple[int, ...], int], int] = {}
        keys = [(tuple(self.of_task[self.task(slot)]), self.restart(slot)) for slot in range(len(self))]
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])

    @cached_property
    def groups(self) -> list[Tensor]:
        """The slots of each group."""
        return [(self.group == number).nonzero().flatten() for number in range(int(self.group.max()) + 1)]

    @cached_property
    def kind(self) -> Tensor:
        """Number of the first group with the same tasks as each slot's, ``[slot]``: restarts differ in nothing else."""
        first: dict[tuple[int, ...], int] = {}
        kinds = [first.setdefault(tuple(self.tasks[own].tolist()), number) for number, own in enumerate(self.groups)]
        return torch.tensor(kinds)[self.group]
