"""A set of targets on the screen."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.cells import cell_len

from lit_prompt.results.answers_shown import Branch, answer_branches
from lit_prompt.results.console import WIDEST, console, print_table, say
from lit_prompt.results.rows import grouped
from lit_prompt.results.table import Table
from lit_prompt.results.tasks_shown import ShownTarget, context_lines, print_tasks
from lit_prompt.results.text import number

if TYPE_CHECKING:
    from lit_prompt.data import Rejected, TargetBatch, TargetSet
    from lit_prompt.lm import Vocabulary

_MOST_NOTES = 20
_TOP_TOKENS = 8
_ROWS_PER_READ = 64
_LONGEST_TEXT = 40
_LEAST_ROOM = 30
#: Columns of masses: where a target tells them, and what they mean.
_MASSES = {
    "outliers": ("outlier_mass", "mass of the outlier tokens"),
    "lost": ("mass_lost", "mass without a token in this vocabulary, left out"),
    "moved": ("mass_moved", "mass that went to the first piece of its token"),
    "cut": ("mass_cut", "mass of the tokens below the top_k, left out"),
}


def print_summary(targets: "TargetSet") -> None:
    """Prints count and entropy range of each family."""
    of = "" if targets.lm is None else f" of {targets.lm}"
    tasks = f" in {len(targets.task_ids)} task{'' if len(targets.task_ids) == 1 else 's'}" if targets.has_tasks else ""
    say(f"{len(targets)} targets{tasks} over the {targets.vocab_size} tokens{of}")
    refused = [rejected.family for rejected in targets.rejected]
    family = np.array(targets.family)
    rows = []
    for name in dict.fromkeys([*targets.family, *refused]):
        h = targets.entropy.numpy()[family == name]
        span = f"{h.min():.3f} to {h.max():.3f}" if len(h) else "-"
        rows.append([name, str(len(h)), span, *([str(refused.count(name))] if refused else [])])
    head = ["family", "targets", "entropy (nats)", *(["rejected"] if refused else [])]
    print_table(Table(head, rows, ["family"]))


def print_remarks(rejected: "Sequence[Rejected]", notes: Sequence[str]) -> None:
    """Prints every rejected target with its reason, and the first notes."""
    say(*(f"rejected {each.target_id}: {each.reason}" for each in rejected))
    say(*(f"note on {note}" for note in notes[:_MOST_NOTES]))
    if len(notes) > _MOST_NOTES:
        say(f"... and {len(notes) - _MOST_NOTES} more notes")


def print_targets(targets: "TargetSet", vocabulary: "Vocabulary", rows: int) -> None:
    """Prints some targets, evenly from all families; every target if ``rows`` is 0.

    Those over answers and those of a task of several targets are printed as trees, the others one per row.
    """
    shown = _first_of_each(targets.family, rows)
    lines: list[_Line] = []
    for start in range(0, len(shown), _ROWS_PER_READ):
        lines += _lines(targets.batch(shown[start : start + _ROWS_PER_READ]), vocabulary)
    sizes = Counter(targets.task)
    in_rows, in_trees = [], []
    for i, line in zip(shown, lines, strict=True):
        if line.branches or sizes[targets.task[i]] > 1:
            in_trees.append(ShownTarget(i, line.context, line.branches or [Branch(token) for token in line.tokens]))
        else:
            in_rows.append(line)
    if in_rows:
        _print_rows(in_rows)
    print_tasks(targets, in_trees)
    if len(shown) < len(targets):
        say(f"... and {len(targets) - len(shown)} more; --rows 0 shows all")


def _print_rows(lines: "Sequence[_Line]") -> None:
    """Prints targets, one per row; what is empty for all is left out, and in a narrow terminal the family."""
    names = [name for name in lines[0].cells if any(line.cells[name] for line in lines)]
    width = {n: min(max(cell_len(t) for t in (n, *(line.cells[n] for line in lines))), WIDEST) for n in names}
    room = console.width - sum(width.values()) - 2 * len(names) - 3
    if room < _LEAST_ROOM:
        names.remove("family")
        room += width["family"] + 2
    cells: list[list[str]] = []
    for line in lines:
        cells.append([*(line.cells[name] for name in names), _fitting(line.tokens, room)])
        cells += [[*("" for _ in names), text] for text in line.context]
    head = [*names, "top tokens"]
    print_table(Table(head, cells, [name for name in head if name not in ("entropy", *_MASSES)]))
    if meant := [f"{name}: {_MASSES[name][1]}" for name in names if name in _MASSES]:
        say("; ".join(meant))


def _first_of_each(family: Sequence[str], rows: int) -> list[int]:
    """Positions of the first targets of each family, ``rows`` in all."""
    turns = zip_longest(*grouped(range(len(family)), family.__getitem__).values())
    order = [i for turn in turns for i in sorted(i for i in turn if i is not None)]
    return sorted(order[: rows or None])


class _Line(NamedTuple):
    """A target: the cells by column, the top tokens, the texts around the prompt, one per line, and its answers."""

    cells: dict[str, str]
    tokens: list[str]
    context: list[str]
    branches: list[Branch]


def _lines(batch: "TargetBatch", vocabulary: "Vocabulary") -> list[_Line]:
    top = batch.log_probs.topk(min(_TOP_TOKENS, batch.log_probs.shape[1]), dim=1)
    found = []
    for i, target_id in enumerate(batch.target_id):
        tokens = [
            f"{_short(vocabulary.text(token_id))} {p:.2g}"
            for token_id, p in zip(top.indices[i].tolist(), top.values[i].exp().tolist(), strict=True)
            if p > 0.0
        ]
        cells = {"id": target_id, "family": batch.family[i], "entropy": number(float(batch.entropy[i]))}
        for name, (key, _) in _MASSES.items():
            mass = batch.metadata[i].get(key)
            cells[name] = number(mass) if isinstance(mass, float) and mass > 0.0 else ""
        cells["partner of"] = batch.partner_of[i] or ""
        answers = batch.answers[i]
        branches = [] if answers is None else answer_branches(answers, vocabulary.text)
        found.append(_Line(cells, tokens, context_lines(*batch.texts[i]), branches))
    return found


def _fitting(tokens: Sequence[str], room: int) -> str:
    """The first tokens, at least one."""
    text = tokens[0]
    for token in tokens[1:]:
        if cell_len(text) + 2 + cell_len(token) > room:
            break
        text += f"  {token}"
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…")
