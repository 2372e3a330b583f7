"""Runs put together: what was searched on which LM, and under which name it is shown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from lit_prompt.report.runs import Run
from lit_prompt.results.bootstrap import FEWEST
from lit_prompt.results.rows import Row, column, grouped
from lit_prompt.results.style import color_of

#: families of targets as the paper names them
RANDOM, OUTLIER = "random", "outlier"
#: where results hold no fingerprint of the target: entropies of one target agree to this in all its results
_SAME_ENTROPY = 6

Identity = tuple[str, str | float]


@dataclass(frozen=True)
class Series:
    """Results of one method, with one length of prompts, on one LM.

    Attributes:
        name: name of the method, with the settings that tell it from others of the same method.
        label: the name, with the prompts' length where there are several.
        rows: result records of targets that were searched for.
        held_out: those of targets that were held out of their tasks' searches.
    """

    lm: str
    name: str
    label: str
    rows: list[Row]
    held_out: list[Row]

    @property
    def length(self) -> float:
        """Tokens of a prompt; the mean where they differ."""
        return float(column(self.rows, "prompt_length").mean())

    def of_family(self, family: str) -> list[Row]:
        """Result records of one family."""
        return [row for row in self.rows if row["family"] == family]

    def with_columns(self, *names: str) -> list[Row]:
        """Result records that have these columns."""
        return [row for row in self.rows if all(row[name] is not None for name in names)]

    def by_target(self) -> dict[Identity, Row]:
        """Result records by what identifies a target."""
        return {identity(row): row for row in self.rows}


@dataclass(frozen=True)
class Study:
    """All results of a report: the runs that were read, and their results by method, length and LM."""

    runs: list[Run]
    series: list[Series]

    @property
    def bounds_alone(self) -> list[Run]:
        """The runs without a result, of which a server tells bounds alone."""
        return [run for run in self.runs if not run.rows]

    @property
    def lms(self) -> list[str]:
        """Names of the LMs, in the runs' order."""
        return list(dict.fromkeys(series.lm for series in self.series))

    @property
    def names(self) -> list[str]:
        """Names of the methods; one has a color of its own in all figures."""
        return list(dict.fromkeys(series.name for series in self.series))

    @property
    def labels(self) -> list[str]:
        """Labels of the methods."""
        return list(dict.fromkeys(series.label for series in self.series))

    @property
    def colors(self) -> dict[str, str]:
        """A color for each label, one for all of a name."""
        colors = color_of(self.names)
        return {series.label: colors[series.name] for series in self.series}

    @property
    def main(self) -> list[Series]:
        """One length of each method on each LM: the one with the most results on all LMs, of those that it has."""
        count = Counter(series.label for series in self.series for _ in series.rows)
        lengths = grouped(self.series, lambda series: (series.lm, series.name)).values()
        chosen = [max(group, key=lambda series: count[series.label]) for group in lengths]
        return [series for series in self.series if series in chosen]

    def by_lm(self, series: Iterable[Series] | None = None) -> dict[str, list[Series]]:
        """The series, all or the given ones, of each LM that has some."""
        found = grouped(self.series if series is None else series, attrgetter("lm"))
        return {lm: found[lm] for lm in self.lms if lm in found}


def identity(row: Row) -> Identity:
    """What identifies a target among runs: its id and its distribution."""
    return row["target_id"], row["target_fingerprint"] or round(row["entropy"], _SAME_ENTROPY)


def on_common_targets(series: Sequence[Series]) -> list[list[Row]]:
    """Of each series the results of the targets that all have, in one order; nothing where these are too few."""
    by_target = [each.by_target() for each in series]
    keys = [key for key in by_target[0] if all(key in other for other in by_target)]
    return [[rows[key] for key in keys] for rows in by_target] if len(keys) >= FEWEST else []


def plain_targets(rows: Sequence[Row]) -> list[Row]:
    """Random targets of a grid of entropies; else random partners; else all."""
    random = [row for row in rows if row["family"] == RANDOM]
    return [row for row in random if row["partner_of"] is None] or random or list(rows)


def study_of(runs: Sequence[Run]) -> Study:
    """Puts runs together.

    Runs of one method are one series on an LM if they searched different targets. Where they searched the same ones,
    the settings that differ become part of their names; where none does, the names of their folders.
    """
    lms = _lm_names(runs)
    parts: dict[tuple[str, str, str], tuple[list[Row], list[Row]]] = {}
    for method, mine in grouped([run for run in runs if run.rows], attrgetter("method")).items():
        lengths = [(min(found), max(found)) for found in ([row["prompt_length"] for row in r.rows] for r in mine)]
        tags = [_tokens(length) if len(set(lengths)) > 1 else "" for length in lengths]
        names = _distinct(method, mine, tags)
        for i in sorted(range(len(mine)), key=lambda i: (names.index(names[i]), lengths[i][0])):
            label = ", ".join(part for part in (names[i], tags[i]) if part)
            rows, held_out = parts.setdefault((lms[_lm_key(mine[i])], names[i], label), ([], []))
            rows.extend(mine[i].rows)
            held_out.extend(mine[i].held_out)
    return Study(list(runs), [Series(*key, *rows) for key, rows in parts.items()])


def _lm_key(run: Run) -> str:
    """The fingerprint; one LM may have several paths."""
    return str(run.any_row["lm_fingerprint"] or run.any_row["lm"])


def _lm_names(runs: Sequence[Run]) -> dict[str, str]:
    """The last part of an LM's path; with the fingerprint where several have it."""
    paths = {_lm_key(run): Path(run.any_row["lm"]).name for run in reversed(runs)}
    count = Counter(paths.values())
    return {key: f"{name} ({key[-8:]})" if count[name] > 1 else name for key, name in paths.items()}


def _tokens(length: tuple[int, int]) -> str:
    low, high = length
    return f"{low} token{'' if low == 1 else 's'}" if low == high else f"{low} to {high} tokens"


def _distinct(method: str, runs: list[Run], tags: list[str]) -> list[str]:
    """Names under which no target occurs twice on one LM with one length."""

    def clash(names: list[str]) -> bool:
        shown = zip(runs, names, tags, strict=True)
        targets = [(_lm_key(run), name, tag, identity(row)) for run, name, tag in shown for row in run.rows]
        return len(set(targets)) < len(targets)

    plain = [method] * len(runs)
    if not clash(plain):
        return plain
    keys = dict.fromkeys(key for run in runs for key in run.settings if key != "length")
    differ = [key for key in keys if len({str(run.settings.get(key)) for run in runs}) > 1]
    by_settings = [", ".join([method, *(f"{key} {_short(run.settings.get(key))}" for key in differ)]) for run in runs]
    if not clash(by_settings):
        return by_settings
    return [f"{name} ({run.folder.parent.name}/{run.folder.name})" for name, run in zip(by_settings, runs, strict=True)]


def _short(value: object) -> str:
    """A setting in few words: of a class its name and arguments, of a group its values."""
    if isinstance(value, dict):
        if "class_path" in value:
            name = str(value["class_path"]).rsplit(".", 1)[-1]
            return f"{name} {_short(value.get('init_args') or {})}".strip()
        return " ".join(f"{key} {_short(item)}" for key, item in value.items())
    return str(value)
