"""Figures that compare methods: by prompt length, by time, by what is left above the floor, with one another."""

from dataclasses import replace
from itertools import combinations
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.report.study import Series, Study, on_common_targets, plain_targets
from lit_prompt.results import style
from lit_prompt.results.figures import bands_by_entropy
from lit_prompt.results.rows import Row, column, entropy_groups, entropy_share, grouped
from lit_prompt.results.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: a smaller KL or excess is drawn at this one: rounding is of its size
_LEAST = 1e-4
_MOST_PAIRS = 9
_PER_ROW = 3
#: thirds of [0, ln|V|]: name, line, from, to
THIRDS = (
    ("low entropy", "o:", 0.0, 1 / 3),
    ("moderate entropy", "o-", 1 / 3, 2 / 3),
    ("high entropy", "o--", 2 / 3, np.inf),
)


def kl_by_length(study: Study) -> "Figure | None":
    """Median KL against prompt length, on targets searched with every length; None if there is one length only."""
    by_length = sorted(study.series, key=attrgetter("length"))
    groups = grouped(by_length, attrgetter("lm", "name"))
    common = {key: rows for key, group in groups.items() if len(group) > 1 and (rows := on_common_targets(group))}
    if not common:
        return None
    lms = list(dict.fromkeys(lm for lm, _ in common))
    figure, axes = style.panels(lms, sharey=True)
    colors, handles = style.color_of(study.names), {}
    for panel, lm in zip(axes[0], lms, strict=True):
        for (_, name), rows in ((key, rows) for key, rows in common.items() if key[0] == lm):
            x = [series.length for series in groups[lm, name]]
            share = entropy_share(rows[0])
            for text, line, low, high in THIRDS:
                mine = (share >= low) & (share < high)
                if mine.any():
                    y = [np.median(column(each, "kl")[mine]) for each in rows]
                    (handles[f"{name}, {text}"],) = panel.plot(x, y, line, color=colors[name], markersize=5)
            panel.set_xscale("log")
            panel.set_xticks(x, [f"{length:g}" for length in x])
            panel.minorticks_off()
        panel.set(xlabel="tokens of the prompt")
    axes[0, 0].set(ylim=(0, None), ylabel="median KL (nats)")
    style.legend_below(figure, handles)
    return figure


def kl_by_seconds(study: Study) -> "Figure | None":
    """KL against the mean seconds of a target, on the targets that an LM's series share; None where none do."""
    shown: dict[str, list[Series]] = {}
    for lm, mine in study.by_lm().items():
        timed = [series for series in mine if (column(series.rows, "seconds") > 0).all()]
        if len(timed) > 1 and (common := on_common_targets(timed)):
            shown[lm] = [replace(series, rows=rows) for series, rows in zip(timed, common, strict=True)]
    if not shown:
        return None
    figure, axes = style.panels(list(shown), sharey=True, sharex=True)
    markers = style.marker_of(series.label for mine in shown.values() for series in mine)
    handles: dict[str, Any] = {}
    for panel, mine in zip(axes[0], shown.values(), strict=True):
        for series in mine:
            low, middle, high = np.quantile(column(series.rows, "kl"), [0.25, 0.5, 0.75])
            x, label, color = column(series.rows, "seconds").mean(), series.label, study.colors[series.label]
            panel.plot([x, x], [low, high], color=color, linewidth=2, alpha=0.6)
            look = {"color": color, "markersize": 9, "markeredgecolor": "white", "linestyle": "none"}
            (handles[label],) = panel.plot(x, middle, markers[label], **look)
        panel.set(xscale="log", xlabel="seconds of search a target")
        style.log_axis(panel.xaxis)
    axes[0, 0].set(ylim=(0, None), ylabel=style.KL_LABEL)
    style.legend_below(figure, handles)
    return figure


def excess_by_entropy(study: Study) -> "Figure | None":
    """KL above the certified floor, against entropy; None where no floor is known."""
    known = _with(study, "excess")
    if not known:
        return None
    shown = {lm: {series.label: series.rows for series in mine} for lm, mine in study.by_lm(known).items()}
    figure, axes, handles = bands_by_entropy({"KL - floor (nats)": shown}, study.colors, "excess", _LEAST)
    axes[0, 0].set_yscale("log")
    style.log_axis(axes[0, 0].yaxis)
    style.drop_empty(axes)
    style.legend_below(figure, handles)
    return figure


#: the parts of a KL: column, name, color
_PARTS = (
    ("kl_floor", "output head (certified floor)", "#57606a"),
    ("excess_norm", "final norm (sphere above ball)", "#E69F00"),
    ("excess_prompt", "prompt (reached above sphere)", "#D55E00"),
)


def parts_by_entropy(study: Study) -> "Figure | None":
    """Mean KL by entropy, split into the shares of output head, final norm and prompt; None where unknown."""
    shown = _with(study, *(name for name, _, _ in _PARTS))
    if not shown:
        return None
    by_lm = study.by_lm(shown)
    labels = list(dict.fromkeys(series.label for series in shown))
    figure, axes = style.panels(list(by_lm), rows=len(labels), height=2.6, sharex="col", sharey=True)
    handles: dict[str, Any] = {}
    for column_of_panels, mine in zip(axes.T, by_lm.values(), strict=True):
        for series in mine:
            panel, h = column_of_panels[labels.index(series.label)], column(series.rows, "entropy")
            groups = entropy_groups(h)
            x = np.array([h[group].mean() for group in groups])
            width = 0.8 * float(np.diff(x).min()) if len(x) > 1 else 0.4
            below = np.zeros(len(x))
            for name, text, color in _PARTS:
                values = column(series.rows, name)
                part = np.array([max(values[group].mean(), 0.0) for group in groups])
                handles[text] = panel.bar(x, part, width, bottom=below, color=color)
                below += part
    for panel, label in zip(axes[:, 0], labels, strict=True):
        panel.set_ylabel(visible(f"{label}: mean KL (nats)"))
    for panel in axes[-1]:
        panel.set_xlabel(style.ENTROPY_LABEL)
    style.drop_empty(axes)
    style.legend_below(figure, handles)
    return figure


def method_against_method(study: Study) -> "Figure | None":
    """KL of one method against that of another, a point for each target; None if no two share targets."""
    by_lm = study.by_lm(study.main).items()
    by_label = {lm: {series.label: series for series in mine} for lm, mine in by_lm}
    found: dict[tuple[str, str], dict[str, list[list[Row]]]] = {}
    for a, b in combinations(dict.fromkeys(series.label for series in study.main), 2):
        for lm, mine in by_label.items():
            if a in mine and b in mine and (common := on_common_targets([mine[a], mine[b]])):
                found.setdefault((a, b), {})[lm] = common
    if not found:
        return None
    pairs = list(found)[:_MOST_PAIRS]
    columns = min(len(pairs), _PER_ROW)
    figure, axes = style.panels([""] * columns, rows=-(-len(pairs) // columns), height=3.3)
    colors, markers, handles = style.color_of(study.lms), style.marker_of(study.lms), {}
    for panel in axes.flat[len(pairs) :]:
        panel.remove()
    for panel, (a, b) in zip(axes.flat, pairs, strict=False):
        for lm, (x_rows, y_rows) in found[a, b].items():
            x, y = (np.maximum(column(rows, "kl"), _LEAST) for rows in (x_rows, y_rows))
            style.points(panel, x, y, colors[lm], alpha=0.5, marker=markers[lm])
            (handles[lm],) = panel.plot([], [], markers[lm], color=colors[lm])
        x_label, y_label, closer = map(visible, (f"{a}: KL (nats)", f"{b}: KL (nats)", f"{b} closer"))
        panel.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
        low, high = min(panel.get_xlim()[0], panel.get_ylim()[0]), max(panel.get_xlim()[1], panel.get_ylim()[1])
        panel.plot([low, high], [low, high], color=style.FAINT, linewidth=1)
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        style.log_axis(panel.xaxis)
        style.log_axis(panel.yaxis)
        panel.text(0.97, 0.04, closer, transform=panel.transAxes, ha="right", fontsize=8, color=style.INK)
    style.legend_below(figure, handles)
    return figure


def _with(study: Study, *names: str) -> list[Series]:
    """The main series, each with its plain targets that have these columns; without those that have none."""
    return [replace(series, rows=plain_targets(rows)) for series in study.main if (rows := series.with_columns(*names))]
