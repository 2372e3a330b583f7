"""Tables in Markdown, as TensorBoard shows them."""

import re
from collections.abc import Iterable, Mapping

from lit_prompt.results.table import Table
from lit_prompt.results.text import as_json, number, visible


def prompt_table(rows: Iterable[tuple[str, float, str]], score: str = "KL") -> str:
    """A row a target: its id, its score in nats (not finite: no prompt yet), and its prompt as a JSON string."""
    lines = [f"| target | {score} (nats) | prompt, as JSON |", "|---|---|---|"]
    for target_id, value, text in rows:
        found = f"{value:.4f} | {code_span(as_json(text))}" if value < float("inf") else "- | -"
        lines.append(f"| {code_span(target_id)} | {found} |")
    return "\n".join(lines)


def means_table(means: Mapping[str, float]) -> str:
    """A row a group of targets, a column a measure, of means under names such as ``test/kl`` and ``test/random/kl``."""
    split = {name: name.split("/", 1)[1].rpartition("/") for name in means}
    measures = list(dict.fromkeys(measure for _, _, measure in split.values()))
    cells: dict[str, dict[str, str]] = {}
    for name, (group, _, measure) in split.items():
        cells.setdefault(group, {})[measure] = number(means[name], 4)
    lines = [f"| targets | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    for group, values in cells.items():
        lines.append(f"| {code_span(group) if group else 'all'} | {' | '.join(values[m] for m in measures)} |")
    return "\n".join(lines)


def markdown_table(table: Table) -> str:
    """A table, under its title and over its caption."""
    words = [name in table.words for name in table.head]
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.head)} |", "|" + "---|" * len(table.head)]
    for row in table.rows:
        cells = (code_span(cell) if word and cell else cell for cell, word in zip(row, words, strict=True))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", table.caption])


def code_span(text: str) -> str:
    """A text between backquotes, as it is but for what cannot be seen. A pipe in it divides no cell."""
    shown = visible(text)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if len(fence) > 1 else f"`{shown}`"
