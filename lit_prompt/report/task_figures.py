"""Figures of tasks: which of their targets carry the KL."""

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lit_prompt.records.tasks import by_task
from lit_prompt.report.study import Study
from lit_prompt.results import style
from lit_prompt.results.rows import Row, grouped
from lit_prompt.results.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TASKS = 6
_MOST_TARGETS = 60
_LONGEST_NAME = 40
#: inches of a target, and of what stands around a panel
_LINE, _AROUND = 0.17, 0.75


class _Share(NamedTuple):
    """What a target adds to the KL of its task, or of the task's held-out targets, with one method."""

    target: str
    held_out: bool
    label: str
    kl: float  #: times the weight, nats


def kl_by_target(study: Study) -> "Figure | None":
    """KL of tasks by their targets, a panel for each task on each LM; None where no task has several targets."""
    tasks = _tasks(study)
    if not tasks:
        return None
    shown = dict(list(tasks.items())[:_MOST_TASKS])
    lines = {key: _lines(shares) for key, shares in shown.items()}
    heights = [_LINE * max(len(names), 2) + _AROUND for names in lines.values()]
    figure = style.new_figure(7.0, sum(heights) + 0.5)
    axes = figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0]
    labels = [label for label in study.labels if any(share.label == label for each in shown.values() for share in each)]
    looks = {label: (study.colors[label], marker) for label, marker in style.marker_of(labels).items()}
    handles: dict[str, Any] = {}
    for panel, ((task, lm), shares) in zip(axes, shown.items(), strict=True):
        names = lines[task, lm]
        count = len({(share.held_out, share.target) for share in shares})
        first = f", the {len(names)} of {count} targets that carry most" if len(names) < count else ""
        panel.set_title(visible(f"{task} on {lm}{first}"), loc="left")
        handles |= _draw(panel, names, shares, looks)
    axes[-1].set_xlabel("weight x KL (nats)")
    style.legend_below(figure, handles)
    return figure


def _tasks(study: Study) -> dict[tuple[str, str], list[_Share]]:
    """By task and LM the shares of a task's targets."""
    found: dict[tuple[str, str], list[_Share]] = {}
    for series in study.series:
        for run in grouped(series.rows + series.held_out, itemgetter("run")).values():
            for task, rows in by_task(run).items():
                if len(rows) > 1:
                    found.setdefault((task, series.lm), []).extend(_share(row, series.label) for row in rows)
    return found


def _share(row: Row, label: str) -> _Share:
    name = row["target_id"].removeprefix(f"{row['family']}/")
    return _Share(name, row["split"] == "test", label, max(row["weight"] * row["kl"], 0.0))


def _lines(shares: list[_Share]) -> list[tuple[bool, str]]:
    """The lines of a panel: targets that were searched for, then held-out ones; those that carry most first."""
    most: dict[tuple[bool, str], float] = {}
    for share in shares:
        key = share.held_out, share.target
        most[key] = max(most.get(key, 0.0), share.kl)
    kept = sorted(most, key=lambda key: -most[key])[:_MOST_TARGETS]
    return sorted(kept, key=lambda key: key[0])


def _draw(
    panel: "Axes", lines: list[tuple[bool, str]], shares: list[_Share], looks: dict[str, tuple[str, str]]
) -> dict[str, Any]:
    """Draws a line a target, a point a method, hollow where the target was held out; returns the legend's points."""
    handles: dict[str, Any] = {}
    place = {key: y for y, key in enumerate(lines)}
    for share in shares:
        if (y := place.get((share.held_out, share.target))) is None:
            continue
        color, marker = looks[share.label]
        panel.plot([0, share.kl], [y, y], color=color, linewidth=1, alpha=0.4)
        fill = "white" if share.held_out else color
        (point,) = panel.plot(share.kl, y, marker, color=color, markerfacecolor=fill, markersize=5)
        handles[f"{share.label}{', held out' if share.held_out else ''}"] = point
    searched = sum(not held_out for held_out, _ in lines)
    if 0 < searched < len(lines):
        panel.axhline(searched - 0.5, color=style.FAINT, linewidth=1)
    panel.set_yticks(np.arange(len(lines)), [visible(_short(name)) for _, name in lines], fontsize=8)
    panel.set(ylim=(len(lines) - 0.4, -0.6), xlim=(0, None))
    panel.grid(visible=False, axis="y")
    return handles


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
