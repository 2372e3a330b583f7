"""Figures that compare methods: by prompt length, by time, by what is left above the floor, with one another."""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.report.study import Series, Study, on_common_targets, plain_targets
from lit_prompt.results import style
from lit_prompt.results.bootstrap import FEWEST
from lit_prompt.results.figures import bands_by_entropy
from lit_prompt.results.rows import Row, column, entropy_groups, entropy_share, grouped

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


def kl_by_length(study: Study) -> "Figure | None":
    """Median KL against prompt length, of targets that were searched with every length; None with one length alone."""
    by_length = sorted(study.series, key=lambda series: series.length)
    groups = grouped(by_length, lambda series: (series.lm, series.name))
    common = {key: on_common_targets(group) for key, group in groups.items() if len(group) > 1}
    common = {key: rows for key, rows in common.items() if len(rows[0]) >= FEWEST}
    if not common:
        return None
    lms = list(dict.fromkeys(lm for lm, _ in common))
    figure, axes = style.panels(lms, sharey=True)
    colors, handles = style.color_of(study.names), {}
    for panel, lm in zip(axes[0], lms, strict=True):
        for (_, name), rows in ((key, rows) for key, rows in common.items() if key[0] == lm):
            x = [series.length for series in groups[lm, name]]
            share = entropy_share(rows[0])
            for text, line, low, high in _THIRDS:
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
    shown: dict[str, list[tuple[Series, list[Row]]]] = {}
    for lm in study.lms:
        timed = [series for series in study.on(lm) if (column(series.rows, "seconds") > 0).all()]
        common = on_common_targets(timed) if len(timed) > 1 else []
        if common and len(common[0]) >= FEWEST:
            shown[lm] = list(zip(timed, common, strict=True))
    if not shown:
        return None
    figure, axes = style.panels(list(shown), sharey=True, sharex=True)
    markers = style.marker_of(series.label for mine in shown.values() for series, _ in mine)
    handles: dict[str, Any] = {}
    for panel, mine in zip(axes[0], shown.values(), strict=True):
        for series, rows in mine:
            low, middle, high = np.quantile(column(rows, "kl"), [0.25, 0.5, 0.75])
            x, label, color = column(rows, "seconds").mean(), series.label, study.colors[series.label]
            panel.plot([x, x], [low, high], color=color, linewidth=2, alpha=0.6)
            look = {"color": color, "markersize": 9, "markeredgecolor": "white", "linestyle": "none"}
            (handles[label],) = panel.plot(x, middle, markers[label], **look)
        panel.set(xscale="log", xlabel="seconds of search a target")
        style.log_axis(panel.xaxis)
    axes[0, 0].set(ylim=(0, None), ylabel=style.KL_LABEL)
    style.legend_below(figure, handles)
    return figure


def excess_by_entropy(study: Study) -> "Figure | None":
    """What the reached KL has above the certified floor, against entropy; None where no floor is known."""
    main = [series for series in study.main if len(_with(series, "excess"))]
    if not main:
        return None
    shown = {
        lm: {s.label: plain_targets(_with(s, "excess")) for s in study.on(lm, main)}
        for lm in study.lms
        if study.on(lm, main)
    }
    figure, axes, handles = bands_by_entropy({"KL - floor (nats)": shown}, study.colors, "excess", _LEAST)
    axes[0, 0].set_yscale("log")
    style.log_axis(axes[0, 0].yaxis)
    style.legend_below(figure, handles)
    return figure


#: the parts of a KL: column, name, color
_PARTS = (
    ("kl_floor", "output head (certified floor)", "#57606a"),
    ("excess_norm", "final norm (sphere above ball)", "#E69F00"),
    ("excess_prompt", "prompt (reached above sphere)", "#D55E00"),
)


def parts_by_entropy(study: Study) -> "Figure | None":
    """Mean KL by entropy, divided into what output head, final norm and prompt cost; None where that is unknown."""
    shown = [series for series in study.main if len(_with(series, *(name for name, _, _ in _PARTS)))]
    if not shown:
        return None
    lms = [lm for lm in study.lms if study.on(lm, shown)]
    labels = list(dict.fromkeys(series.label for series in shown))
    figure, axes = style.panels(lms, rows=len(labels), height=2.6, sharex="col", sharey=True)
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
        panel.set_xlabel(style.ENTROPY_LABEL)
    style.legend_below(figure, handles)
    return figure


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
    figure, axes = style.panels([""] * columns, rows=-(-len(pairs) // columns), height=3.3)
    colors, markers, handles = style.color_of(study.lms), style.marker_of(study.lms), {}
    for panel in axes.flat[len(pairs) :]:
        panel.remove()
    for panel, (a, b) in zip(axes.flat, pairs, strict=False):
        for lm, (x_rows, y_rows) in found[a, b].items():
            x, y = (np.maximum(column(rows, "kl"), _LEAST) for rows in (x_rows, y_rows))
            style.points(panel, x, y, colors[lm], alpha=0.5, marker=markers[lm])
            (handles[lm],) = panel.plot([], [], markers[lm], color=colors[lm])
        panel.set(xscale="log", yscale="log", xlabel=f"{a}: KL (nats)", ylabel=f"{b}: KL (nats)")
        low, high = min(panel.get_xlim()[0], panel.get_ylim()[0]), max(panel.get_xlim()[1], panel.get_ylim()[1])
        panel.plot([low, high], [low, high], color=style.FAINT, linewidth=1)
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        style.log_axis(panel.xaxis)
        style.log_axis(panel.yaxis)
        panel.text(0.97, 0.04, f"{b} closer", transform=panel.transAxes, ha="right", fontsize=8, color=style.INK)
    style.legend_below(figure, handles)
    return figure


def _with(series: Series, *names: str) -> list[Row]:
    """The results that have these columns."""
    return [row for row in series.rows if all(row.get(name) is not None for name in names)]
