"""What is told of token floors."""

from collections.abc import Sequence

import numpy as np

from lit_prompt.results.rows import Row, column, has_mixtures
from lit_prompt.results.table import Table
from lit_prompt.results.text import nats


def token_floor_told(rows: Sequence[Row]) -> str:
    """What a token floor is, in tables of these results."""
    what = (
        "no prompt of so many tokens, or no mixture of at most so many of them,"
        if has_mixtures(rows)
        else "no prompt of so many tokens"
    )
    return (
        f"token floor: of a random target, {what} is below it, but with a probability of one in a million for all "
        "targets together"
    )


def below_token_floor(rows: Sequence[Row]) -> str | None:
    """A sentence on KLs below their token floors; None where there are none."""
    kl, floor = column(rows, "kl"), column(rows, "kl_floor_tokens")
    if not (below := int((kl < floor).sum())):
        return None
    return (
        f"{below} of {int(np.isfinite(floor).sum())} KLs are below their token floor. By chance that happens once in a "
        "million times: were tokens, texts or LM chosen for these targets?"
    )


def token_curve_table(
    lengths: Sequence[int], floors: Sequence[Sequence[float]], goal: float, components: int = 1
) -> Table:
    """A row for each length: token floors ``[target, length]`` in nats, and how many of them are above a goal.

    They are of prompts or, with several components, of mixtures of at most so many.
    """
    each = "prompt" if components == 1 else f"mixture of {components} prompts"
    body = []
    for length, own in zip(lengths, np.array(floors).T, strict=True):
        told = (nats(float(value)) for value in np.quantile(own, (0.5, 0.1, 0.9)))
        body.append([str(length), *told, str(int((own > goal).sum()))])
    title = f"What a {each} of so many tokens cannot say: token floors of {len(floors)} random targets, in nats"
    caption = (
        f"above: for so many targets no {each} of at most so many tokens reaches {goal:g} nats, whatever the search; "
        "all of this holds but with a probability of one in a million"
    )
    return Table(["tokens", "median", "10 %", "90 %", f"above {goal:g}"], body, [], title, caption)
