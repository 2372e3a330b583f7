"""Tables of text, for a terminal or a page."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np

from lit_prompt.results.rows import Row, column, entropy_groups, grouped
from lit_prompt.results.text import nats

Told = Callable[[list[Row]], str]

#: With more rows than this, a family gets one row instead of one for each entropy.
_MOST_ROWS = 60
#: Counts from here on are shown by their power of ten.
_MANY = 1e6
#: A table of a row for each of very many things is cut here.
MOST_SHOWN = 1000


@dataclass(frozen=True)
class Table:
    """Cells of text; ``words`` are headings of columns that do not hold numbers, ``total`` a last row set apart."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str]
    title: str = ""
    caption: str = ""
    total: Sequence[str] | None = None

    def first(self, most: int = MOST_SHOWN) -> "Table":
        """The table, or its first rows where there are more, which its caption then says."""
        if len(self.rows) <= most:
            return self
        told = f"the first {most} of {len(self.rows)} rows; the others are in the run's files"
        return replace(self, rows=self.rows[:most], caption="; ".join(part for part in (self.caption, told) if part))


def entropy_table(rows: Sequence[Row], columns: Mapping[str, Told], title: str, caption: str) -> Table:
    """A row for each family and entropy (for each family where those would be too many), and one for all.

    ``columns`` tells, by heading, what is shown of a group of records.
    """
    families = grouped(rows, itemgetter("family"))
    groups = [
        (family, [mine[i] for i in group])
        for family, mine in families.items()
        for group in entropy_groups(column(mine, "entropy"))
    ]
    if len(groups) > _MOST_ROWS:
        groups = list(families.items())

    def cells(family: str, group: list[Row]) -> list[str]:
        told = [span(column(group, "entropy")), str(len(group)), *(tell(group) for tell in columns.values())]
        return [family, *told] if len(families) > 1 else told

    head = [*(["family"] if len(families) > 1 else []), "entropy", "targets", *columns]
    total = cells("all", _searched(rows)) if rows else None
    return Table(head, [cells(*group) for group in groups], ["family"], title, caption, total)


def target_table(rows: Sequence[Row], columns: Mapping[str, Told], title: str, caption: str) -> Table:
    """A row for each target under its name and, where there are several, one of their medians.

    Args:
        rows: records with a target's id and its entropy.
        columns: by heading, what is told of a target, or of several as a median.
        title: above the table.
        caption: below it.
    """

    def cells(name: str, group: Sequence[Row]) -> list[str]:
        return [name, quantile("entropy")(list(group)), *(tell(list(group)) for tell in columns.values())]

    total = cells("median", _searched(rows)) if len(rows) > 1 else None
    every = [cells(row["target_id"], [row]) for row in rows]
    return Table(["target", "entropy", *columns], every, ["target"], title, caption, total)


def _searched(rows: Sequence[Row]) -> list[Row]:
    """Records of targets that were searched for; all where none was."""
    return [row for row in rows if row.get("split") != "test"] or list(rows)


def quantile(name: str, q: float = 0.5) -> Told:
    """Tells a quantile of a column of KLs, as far as they are known."""

    def tell(rows: list[Row]) -> str:
        values = column(rows, name)
        values = values[~np.isnan(values)]
        return nats(float(np.quantile(values, q)) if len(values) else None)

    return tell


def count(name: str) -> Told:
    """Tells the median of a column of counts, as far as they are known."""

    def tell(rows: list[Row]) -> str:
        values = column(rows, name)
        values = values[~np.isnan(values)]
        middle = float(np.median(values)) if len(values) else math.nan
        if math.isnan(middle):
            return "-"
        return "inf" if math.isinf(middle) else f"{middle:,.0f}" if middle < _MANY else f"{middle:.0e}"

    return tell


def span(values: Iterable[float]) -> str:
    """The least and the greatest value; one where they are about the same."""
    low, high = np.min(list(values)), np.max(list(values))
    return f"{low:.2f}" if high - low < 0.005 else f"{low:.2f}-{high:.2f}"
