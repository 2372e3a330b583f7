"""Figures that compare methods: by prompt length, by time, by what is left above the floor, with one another."""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.report.study import Series, Study, on_common_targets, plain_targets
from lit_prompt.results.bootstrap import FEWEST
from lit_prompt.results.rows import Row, column, entropy_groups, entropy_share, grouped
from lit_prompt.results.style import (
    COLORS,
    ENTROPY_LABEL,
    FAINT,
    INK,
    KL_LABEL,
    MARKERS,
    band,
    color_of,
    figure_style,
    legend_below,
    log_axis,
    panels,
    points,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: a smaller KL or excess is drawn at this one: rounding is of its size
_LEAST = 1e-4
_MOST_PAIRS = 9
_PER_ROW = 3
#: thirds of [0, ln|V|]: name, line, from, to
_THIRDS = (
    ("low entropy", "o:", 0.0, 1 / 3),
    ("moderate entropy", "o-", 1 / 3, 2 / 3),
    ("high entropy", "o--", 2 / 3, np.inf),
)


@figure_style()
def kl_by_length(study: Study) -> "Figure | None":
    """Median KL against prompt length, of targets that were searched with every length; None with one length alone."""
    by_length = sorted(study.series, key=lambda series: series.length)
    groups = grouped(by_length, lambda series: (series.lm, series.name))
    common = {key: on_common_targets(group) for key, group in groups.items() if len(group) > 1}
    common = {key: rows for key, rows in common.items() if len(rows[0]) >= FEWEST}
    if not common:
        return None
    lms = list(dict.fromkeys(lm for lm, _ in common))
    figure, axes = panels(lms, sharey=True)
    colors, handles = color_of(study.names), {}
    for panel, lm in zip(axes[0], lms, strict=True):
        for (_, name), rows in ((key, rows) for key, rows in common.items() if key[0] == lm):
            x = [series.length for series in groups[lm, name]]
            share = entropy_share(rows[0])
            for text, style, low, high in _THIRDS:
                mine = (share >= low) & (share < high)
                if mine.any():
                    y = [np.median(column(each, "kl")[mine]) for each in rows]
                    (line,) = panel.plot(x, y, style, color=colors[name], markersize=5)
                    handles[f"{name}, {text}"] = line
            panel.set_xscale("log")
            panel.set_xticks(x, [f"{length:g}" for length in x])
            panel.minorticks_off()
        panel.set(xlabel="tokens of the prompt")
    axes[0, 0].set(ylim=(0, None), ylabel="median KL (nats)")
    legend_below(figure, handles)
    return figure


@figure_style()
def kl_by_seconds(study: Study) -> "Figure | None":
    """KL against the mean seconds of a target, on the targets that an LM's series share; None where none do."""
    shown: dict[str, list[tuple[Series, list[Row]]]] = {}
    for lm in study.lms:
        timed = [series for series in study.on(lm) if (column(series.rows, "seconds") > 0).all()]
        common = on_common_targets(timed) if len(timed) > 1 else []
        if common and len(common[0]) >= FEWEST:
            shown[lm] = list(zip(timed, common, strict=True))
    if not shown:
        return None
    labels = [label for label in study.labels if any(s.label == label for mine in shown.values() for s, _ in mine)]
    figure, axes = panels(list(shown), sharey=True, sharex=True)
    colors, handles = color_of(study.names), {}
    for panel, mine in zip(axes[0], shown.values(), strict=True):
        for series, rows in mine:
            low, middle, high = np.quantile(column(rows, "kl"), [0.25, 0.5, 0.75])
            x, color = column(rows, "seconds").mean(), colors[series.name]
            panel.plot([x, x], [low, high], color=color, linewidth=2, alpha=0.6)
            (handles[series.label],) = panel.plot(
                x, middle, MARKERS[labels.index(series.label) % len(MARKERS)], color=color, markersize=9,
                markeredgecolor="white", linestyle="none",
            )  # fmt: skip
        panel.set(xscale="log", xlabel="seconds of search a target")
        log_axis(panel.xaxis)
    axes[0, 0].set(ylim=(0, None), ylabel=KL_LABEL)
    legend_below(figure, handles)
    return figure


@figure_style()
def excess_by_entropy(study: Study) -> "Figure | None":
    """What the reached KL has above the certified floor, against entropy; None where no floor is known."""
    shown = [series for series in study.main if len(_with(series, "excess"))]
    if not shown:
        return None
    lms = [lm for lm in study.lms if study.on(lm, shown)]
    figure, axes = panels(lms, sharey=True)
    colors, handles = color_of(study.names), {}
    for panel, lm in zip(axes[0], lms, strict=True):
        for series in study.on(lm, shown):
            rows = plain_targets(_with(series, "excess"))
            line = band(panel, column(rows, "entropy"), np.maximum(column(rows, "excess"), _LEAST), colors[series.name])
            handles[f"{series.label}: median, 10 to 90 %"] = line
        panel.set(yscale="log", xlabel=ENTROPY_LABEL)
    log_axis(axes[0, 0].yaxis)
    axes[0, 0].set_ylabel("KL - floor (nats)")
    legend_below(figure, handles)
    return figure


#: the parts of a KL: column, name, color
_PARTS = (
    ("kl_floor", "output head (certified floor)", "#57606a"),
    ("excess_norm", "final norm (sphere above ball)", "#E69F00"),
    ("excess_prompt", "prompt (reached above sphere)", "#D55E00"),
)


@figure_style()
def parts_by_entropy(study: Study) -> "Figure | None":
    """Mean KL by entropy, divided into what output head, final norm and prompt cost; None where that is unknown."""
    shown = [series for series in study.main if len(_with(series, *(name for name, _, _ in _PARTS)))]
    if not shown:
        return None
    lms = [lm for lm in study.lms if study.on(lm, shown)]
    labels = list(dict.fromkeys(series.label for series in shown))
    figure, axes = panels(lms, rows=len(labels), height=2.6, sharex="col", sharey=True)
    handles: dict[str, Any] = {}
    for row, label in zip(axes, labels, strict=True):
        for panel, lm in zip(row, lms, strict=True):
            for series in (each for each in study.on(lm, shown) if each.label == label):
                rows = plain_targets(_with(series, *(name for name, _, _ in _PARTS)))
                h = column(rows, "entropy")
                groups = entropy_groups(h)
                x = np.array([h[group].mean() for group in groups])
                width = 0.8 * float(np.diff(x).min()) if len(x) > 1 else 0.4
                below = np.zeros(len(x))
                for name, text, color in _PARTS:
                    values = column(rows, name)
                    part = np.array([max(values[group].mean(), 0.0) for group in groups])
                    handles[text] = panel.bar(x, part, width, bottom=below, color=color)
                    below += part
        row[0].set_ylabel(f"{label}: mean KL (nats)")
    for panel in axes[-1]:
        panel.set_xlabel(ENTROPY_LABEL)
    legend_below(figure, handles)
    return figure


@figure_style()
def method_against_method(study: Study) -> "Figure | None":
    """KL of one method against that of another, a point a target; None where no two searched the same targets."""
    labels = list(dict.fromkeys(series.label for series in study.main))
    found: dict[tuple[str, str], dict[str, list[list[Row]]]] = {}
    for a, b in combinations(labels, 2):
        for lm in study.lms:
            mine = {series.label: series for series in study.on(lm, study.main)}
            if a in mine and b in mine and len((common := on_common_targets([mine[a], mine[b]]))[0]) >= FEWEST:
                found.setdefault((a, b), {})[lm] = common
    if not found:
        return None
    pairs = list(found)[:_MOST_PAIRS]
    columns = min(len(pairs), _PER_ROW)
    figure, axes = panels([""] * columns, rows=-(-len(pairs) // columns), height=3.3)
    handles: dict[str, Any] = {}
    for panel in axes.flat[len(pairs) :]:
        panel.remove()
    for panel, (a, b) in zip(axes.flat, pairs, strict=False):
        for lm, (x_rows, y_rows) in found[a, b].items():
            color = COLORS[study.lms.index(lm) % len(COLORS)]
            x, y = (np.maximum(column(rows, "kl"), _LEAST) for rows in (x_rows, y_rows))
            points(panel, x, y, color, alpha=0.5, marker=MARKERS[study.lms.index(lm) % len(MARKERS)])
            handles[lm] = panel.plot([], [], MARKERS[study.lms.index(lm) % len(MARKERS)], color=color)[0]
        panel.set(xscale="log", yscale="log", xlabel=f"{a}: KL (nats)", ylabel=f"{b}: KL (nats)")
        low, high = min(panel.get_xlim()[0], panel.get_ylim()[0]), max(panel.get_xlim()[1], panel.get_ylim()[1])
        panel.plot([low, high], [low, high], color=FAINT, linewidth=1)
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        log_axis(panel.xaxis)
        log_axis(panel.yaxis)
        panel.text(0.97, 0.04, f"{b} closer", transform=panel.transAxes, ha="right", fontsize=8, color=INK)
    legend_below(figure, handles)
    return figure


def _with(series: Series, *names: str) -> list[Row]:
    """The results that have these columns."""
    return [row for row in series.rows if all(row.get(name) is not None for name in names)]
