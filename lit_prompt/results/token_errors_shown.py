"""Which tokens carry a target's KL, as text."""

from collections.abc import Sequence
from typing import Any

_SHOWN = 5


def error_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """Missing and excess mass of one target, a line each.

    Args:
        records: its token records (see ``PromptModule.predict_step``).

    Returns:
        Lines such as ``missing 0.121:  ' fox' 0.200 to 0.079 (0.186 nats)``; none for a side without an error.
    """
    return [f"{side}:  {',  '.join(tokens)}" for side, tokens in _sides(records)]


def error_markdown(records: Sequence[dict[str, Any]], title: str) -> str:
    """The same as Markdown for TensorBoard, a line a token."""
    lines = [f"**{title}**", ""]
    for side, tokens in _sides(records):
        # indented: a token may hold what Markdown would take for its own
        lines += [f"    {side}", *(f"        {token}" for token in tokens)]
    return "\n".join(lines)


def _sides(records: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    sides = []
    for name, sign in (("missing", 1.0), ("excess", -1.0)):
        wrong = [(sign * (r["target_probability"] - r["reached_probability"]), r) for r in records]
        wrong = sorted((pair for pair in wrong if pair[0] > 1e-6), key=lambda pair: -pair[0])[:_SHOWN]
        if wrong:
            tokens = [
                f"{r['token']!r} {r['target_probability']:.3g} to {r['reached_probability']:.3g} "
                f"({r['token_kl']:.2g} nats)"
                for _, r in wrong
            ]
            sides.append((f"{name} {records[0]['wrong_mass']:.3f}", tokens))
    return sides
