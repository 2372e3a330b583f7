"""The screen: lines and tables, in which names and texts are shown as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.segment import Segments
from rich.table import Table as View

from lit_prompt.results.table import Table
from lit_prompt.results.text import visible

# tokens are shown as they are: ":x:" is no picture
console = Console(highlight=False, emoji=False)

#: A column of words, except the last, is folded when it is wider; none is made narrower than the least.
WIDEST, _LEAST = 32, 10
#: With more columns than this, margins are narrow: a terminal of 80 columns is to show the families' names too.
_MANY = 6


def say(*lines: str) -> None:
    """Prints lines, however long."""
    for line in lines:
        console.print(visible(line), soft_wrap=True, markup=False)


@contextmanager
def silence() -> Iterator[None]:
    """Shows nothing that is printed within the block."""
    console.quiet = True
    try:
        yield
    finally:
        console.quiet = False


def print_table(table: Table, most: int | None = None) -> None:
    """Prints a table, words folded and numbers whole; rows beyond the most are said to be in the file.

    A file or a pipe gets every column; those that a narrow terminal has no room for are named below the table.
    """
    margin = 0 if len(table.head) > _MANY else 1
    rows = table.rows[:most]
    every = [table.head, *rows, *([] if table.total is None else [table.total])]
    widest = [max(cell_len(visible(cell)) for cell in cells) for cells in zip(*every, strict=True)]
    folded = _LEAST if console.is_terminal else WIDEST
    least = [min(w, folded) if name in table.words else w for name, w in zip(table.head, widest, strict=True)]
    needed = list(accumulate((width + margin + 1 for width in least), initial=1))[1:]
    room = console.width if console.is_terminal else max(console.width, needed[-1])
    fitting = max(1, sum(width <= room for width in needed))
    view = View(
        title=_shown(table.title) or None, title_justify="left", caption=_shown(table.caption) or None,
        caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, margin, 0, 0),
    )  # fmt: skip
    last = max((i for i, name in enumerate(table.head) if name in table.words), default=0)
    for i, name in enumerate(table.head[:fitting]):
        if name in table.words:
            limit = None if i == last and i else WIDEST
            view.add_column(_shown(name), overflow="fold", min_width=least[i], max_width=limit)
        else:
            view.add_column(_shown(name), justify="right", no_wrap=True)
    for row in rows:
        view.add_row(*map(_shown, row[:fitting]))
    if table.total is not None:
        view.add_section()
        view.add_row(*map(_shown, table.total[:fitting]))
    console.print(Segments(console.render(view, console.options.update(width=room))), crop=False)
    if left_out := table.head[fitting:]:
        say(f"no room for {'; '.join(left_out)}: a terminal of {needed[-1]} columns, or a file, has all")
    if most is not None and len(table.rows) > most:
        say(f"... and {len(table.rows) - most} more in the file.")


def _shown(text: str) -> str:
    return escape(visible(text))
