"""Tasks on the screen: a tree of the targets that one prompt is searched for, and of their answers."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text
from rich.tree import Tree

from lit_prompt.results.answers_shown import Branch
from lit_prompt.results.console import console
from lit_prompt.results.rows import grouped
from lit_prompt.results.text import number, visible

if TYPE_CHECKING:
    from lit_prompt.data import TargetSet

_LONGEST_TEXT = 60


class ShownTarget(NamedTuple):
    """What is shown of a target in a tree."""

    position: int  #: in the set
    context: list[str]  #: the texts around the prompt, one a line
    branches: list[Branch]  #: its answers


def print_tasks(targets: "TargetSet", shown: Sequence[ShownTarget]) -> None:
    """Prints a tree for each task of these targets; one that is a task by itself is its own tree."""
    for task, mine in grouped(shown, lambda target: targets.task[target.position]).items():
        searched, held_out = len(targets.members(task)), len(targets.members(task, held_out=True))
        if searched + held_out == 1:
            console.print(_tree(targets, mine[0], alone=True))
            continue
        count = f"{searched} target{'' if searched == 1 else 's'}" + (f", {held_out} held out" if held_out else "")
        tree = Tree(_line(f"{targets.task_ids[task]}: one prompt for {count}"))
        for target in mine:
            tree.add(_tree(targets, target, alone=False))
        if (more := searched + held_out - len(mine)) > 0:
            tree.add(_line(f"... and {more} more"))
        console.print(tree)


def context_lines(before: str | None, after: str | None, chat: str | None) -> list[str]:
    """The texts around a prompt, shortened, one a line."""
    if chat is not None:
        return [f"{message['role']} {_short(message['content'])}" for message in json.loads(chat)]
    sides = (("before", before), ("after", after))
    return [f"{side} {_short(text)}" for side, text in sides if text is not None]


def _tree(targets: "TargetSet", target: ShownTarget, alone: bool) -> Tree:
    i = target.position
    facts = [f"entropy {number(float(targets.entropy[i]))}"]
    if not alone:
        facts.insert(0, "held out" if targets.held_out[i] else f"weight {number(float(targets.weight[i]))}")
    tree = Tree(_line("\n".join([f"{targets.target_id[i]}: {', '.join(facts)}", *target.context])))
    _grow(tree, target.branches)
    return tree


def _grow(tree: Tree, branches: Sequence[Branch]) -> None:
    for branch in branches:
        _grow(tree.add(_line(branch.line)), branch.then)


def _line(text: str) -> Text:
    return Text("\n".join(visible(line) for line in text.split("\n")), overflow="fold")


def _short(text: str) -> str:
    """The ends of a text, between which the least is told."""
    if len(text) > _LONGEST_TEXT:
        text = f"{text[: _LONGEST_TEXT // 2]}…{text[-_LONGEST_TEXT // 2 :]}"
    return repr(text)
