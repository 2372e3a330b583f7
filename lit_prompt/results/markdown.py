"""Tables in Markdown, as TensorBoard shows them."""

import re
from collections.abc import Iterable


def prompt_table(rows: Iterable[tuple[str, float, str]], score: str = "KL") -> str:
    """A row a target: its id, its score in nats (not finite: no prompt yet), and its prompt's text."""
    lines = [f"| target | {score} (nats) | prompt |", "|---|---|---|"]
    for target_id, value, text in rows:
        found = f"{value:.4f} | {code_span(repr(text))}" if value < float("inf") else "- | -"
        lines.append(f"| {code_span(target_id)} | {found} |")
    return "\n".join(lines)


def code_span(text: str) -> str:
    """A text as it is, but in one line, between backquotes. A pipe in it divides no cell."""
    shown = " ".join(text.splitlines())
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if len(fence) > 1 else f"`{shown}`"
