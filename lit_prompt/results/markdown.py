"""Tables in Markdown, as TensorBoard shows them."""

from collections.abc import Iterable


def prompt_table(rows: Iterable[tuple[str, float, str]]) -> str:
    """A table of prompts.

    Args:
        rows: a target's id, the KL in nats, and the prompt's text.
    """
    lines = ["| target | KL (nats) | prompt |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {target_id} | {kl:.4f} | {code_span(text)} |" for target_id, kl, text in rows)])


def code_span(text: str) -> str:
    """A text as it is, between backquotes, in a cell of a table."""
    shown = repr(text)[1:-1].replace("|", "\\|")
    runs = [len(run) for run in "".join(c if c == "`" else " " for c in shown).split()]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {shown} {fence}" if runs else f"`{shown}`"
