"""A set of targets as tables on the screen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from lit_prompt.data import Rejected, TargetBatch, TargetSet
from lit_prompt.lm import Vocabulary
from lit_prompt.results.console import console

_MOST_NOTES = 20
_TOP_TOKENS = 8
_ROWS_PER_READ = 64
_LONGEST_TEXT = 40
_WIDEST = 32
_LEAST_ROOM = 30
#: Columns of numbers, and what they mean where the name does not tell.
_NUMBERS = {
    "entropy": "",
    "outliers": "mass of the outlier tokens",
    "lost": "mass without a token in this vocabulary, left out",
    "moved": "mass that went to the first piece of its token",
    "cut": "mass of the tokens below the top_k, left out",
}


def print_summary(targets: TargetSet) -> None:
    """Prints count and entropy range of each family."""
    of = "" if targets.lm is None else f" of {targets.lm}"
    console.print(f"{len(targets)} targets over the {targets.vocab_size} tokens{of}", soft_wrap=True, markup=False)
    refused = [rejected.family for rejected in targets.rejected]
    view = Table(box=box.SIMPLE_HEAD)
    view.add_column("family", overflow="fold")
    for name in ("targets", "entropy (nats)", *(["rejected"] if refused else [])):
        view.add_column(name, justify="right", no_wrap=True)
    family = np.array(targets.family)
    for name in dict.fromkeys([*targets.family, *refused]):
        h = targets.entropy.numpy()[family == name]
        span = f"{h.min():.3f} to {h.max():.3f}" if len(h) else "-"
        view.add_row(escape(name), str(len(h)), span, *([str(refused.count(name))] if refused else []))
    console.print(view)


def print_remarks(rejected: Sequence[Rejected], notes: Sequence[str]) -> None:
    """Prints every rejected target with its reason, and the first notes.

    Args:
        rejected: targets that could not be made.
        notes: lines.
    """
    lines = [f"rejected {each.target_id}: {each.reason}" for each in rejected]
    lines += [f"note on {note}" for note in notes[:_MOST_NOTES]]
    if len(notes) > _MOST_NOTES:
        lines.append(f"... and {len(notes) - _MOST_NOTES} more notes")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def print_targets(targets: TargetSet, vocabulary: Vocabulary, rows: int) -> None:
    """Prints a row a target: id, family, entropy, outlier mass, what its making cost, partner, top tokens and context.

    What is empty for all of them is left out, and in a narrow terminal the family, with which an id begins.

    Args:
        targets: the set.
        vocabulary: spells the tokens.
        rows: how many to print, shared evenly among the families; 0 for all.
    """
    shown = _first_of_each(targets.family, rows)
    lines: list[_Line] = []
    for start in range(0, len(shown), _ROWS_PER_READ):
        lines += _lines(targets.batch(shown[start : start + _ROWS_PER_READ]), vocabulary)
    names = [name for name in lines[0].cells if any(line.cells[name] for line in lines)]
    width = {n: min(max(cell_len(t) for t in (n, *(line.cells[n] for line in lines))), _WIDEST) for n in names}
    room = console.width - sum(width.values()) - 2 * len(names) - 3
    if room < _LEAST_ROOM:
        names.remove("family")
        room += width["family"] + 2
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        number = name in _NUMBERS
        view.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold", max_width=_WIDEST)
    view.add_column("top tokens", overflow="fold")
    for line in lines:
        view.add_row(*(escape(line.cells[name]) for name in names), escape(_fitting(line.tokens, room) + line.context))
    console.print(view)
    if meant := [f"{name}: {_NUMBERS[name]}" for name in names if _NUMBERS.get(name)]:
        console.print("; ".join(meant), soft_wrap=True)
    if len(shown) < len(targets):
        console.print(f"... and {len(targets) - len(shown)} more; --rows 0 shows all")


def _first_of_each(family: Sequence[str], rows: int) -> list[int]:
    """Positions of the first targets of each family, ``rows`` in all."""
    rank: list[int] = []
    count: dict[str, int] = {}
    for name in family:
        rank.append(count.get(name, 0))
        count[name] = rank[-1] + 1
    chosen = sorted(range(len(family)), key=lambda i: (rank[i], i))
    return sorted(chosen[: rows or None])


@dataclass
class _Line:
    """A row of the table.

    Attributes:
        cells: text of each column.
        tokens: the top tokens, of which as many are shown as there is room for.
        context: a line for the texts around the prompt; empty for the module's.
    """

    cells: dict[str, str]
    tokens: list[str]
    context: str


def _lines(batch: TargetBatch, vocabulary: Vocabulary) -> list[_Line]:
    top = batch.log_probs.topk(min(_TOP_TOKENS, batch.log_probs.shape[1]), dim=1)
    found = []
    for i, target_id in enumerate(batch.target_id):
        tokens = [
            f"{_short(vocabulary.text(token_id))} {p:.2g}"
            for token_id, p in zip(top.indices[i].tolist(), top.values[i].exp().tolist(), strict=True)
            if p > 0.0
        ]
        facts = batch.metadata[i]
        cells = {
            "id": target_id,
            "family": batch.family[i],
            "entropy": f"{float(batch.entropy[i]):.3f}",
            "outliers": _mass(facts.get("outlier_mass")),
            "lost": _mass(facts.get("mass_lost")),
            "moved": _mass(facts.get("mass_moved")),
            "cut": _mass(facts.get("mass_cut")),
            "partner of": batch.partner_of[i] or "",
        }
        sides = {"before": batch.before[i], "after": batch.after[i]}
        context = "".join(f"\n{side} {_short(text)}" for side, text in sides.items() if text is not None)
        found.append(_Line(cells, tokens, context))
    return found


def _mass(mass: object) -> str:
    """A mass to three digits; nothing for one that a target does not tell, or that is 0."""
    return f"{mass:.3f}" if isinstance(mass, float) and mass > 0.0 else ""


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
