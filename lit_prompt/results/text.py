"""Numbers and texts as they are shown, in a terminal or on a page."""

import json
import math
import re


def visible(text: str) -> str:
    r"""A text with what cannot be seen, or would steer a terminal, escaped as Python does.

    >>> print(visible("a\x1b[31m\n"))
    a\x1b[31m\n
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_json(text: str) -> str:
    r"""A text as a JSON string that is the same when it is copied from a terminal or a page.

    What cannot be seen is escaped, and of spaces in a row all but the first.

    >>> print(as_json('say  "a"\n\xa0'))
    "say \u0020\"a\"\n\u00a0"
    """
    shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))
    return re.sub("(?<= ) ", r"\\u0020", shown)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, a dash where there is none; what rounds to zero has no sign.

    >>> number(-1e-4), number(-0.25, 1), number(None)
    ('0.000', '-0.2', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def nats(value: float | None, digits: int = 3) -> str:
    """A KL; none is negative, whatever rounding has made of it."""
    return number(value if value is None else max(value, 0.0), digits)
