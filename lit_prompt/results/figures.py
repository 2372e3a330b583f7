"""Pictures of results."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.results import style
from lit_prompt.results.rows import Row, column
from lit_prompt.results.text import visible

#: Smaller probabilities would take the picture's room from those that matter.
_LEAST_DRAWN = 1e-9
_PANELS_PER_ROW = 4

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Shown = Mapping[str, Mapping[str, Mapping[str, Sequence[Row]]]]


def bands_by_entropy(
    shown: Shown, colors: Mapping[str, str], value: str = "kl", least: float = -math.inf, height: float = 3.6
) -> tuple["Figure", Any, dict[str, Any]]:
    """Points, medians and 10 to 90 % bands against target entropy.

    Args:
        shown: by label of the vertical axis a row of panels, by title a panel, by name the records of a band.
            Records whose value is not known or not finite are left out.
        colors: of the names.
        value: column of the records.
        least: smaller values are drawn at this one.
        height: of a row, in inches.

    Returns:
        The figure, its axes ``[row, column]``, and the legend's lines.
    """
    titles = list(next(iter(shown.values())))
    figure, axes = style.panels(titles, rows=len(shown), height=height, sharex="col", sharey="row")
    handles: dict[str, Any] = {}
    for line, (label, columns) in zip(axes, shown.items(), strict=True):
        line[0].set_ylabel(visible(label))
        for panel, groups in zip(line, columns.values(), strict=True):
            for name, rows in groups.items():
                h, y = column(rows, "entropy"), column(rows, value)
                known = np.isfinite(y)
                band_line = style.band(panel, h[known], np.maximum(y[known], least), colors[name])
                handles[f"{name}: median, 10 to 90 %"] = band_line
    for panel in axes[-1]:
        panel.set(xlabel=style.ENTROPY_LABEL)
    return figure, axes, handles


@style.figure_style()
def kl_against_entropy(
    shown: Mapping[str, Mapping[str, Sequence[Row]]], colors: Mapping[str, str] | None = None
) -> "Figure":
    """KL against target entropy, with certified floors (their medians) and the KL to the uniform distribution.

    Args:
        shown: by title a panel, by name the result records of a band.
        colors: of the names; None for the palette's in turn.
    """
    colors = colors or style.color_of(name for groups in shown.values() for name in groups)
    figure, axes, handles = bands_by_entropy({style.KL_LABEL: shown}, colors)
    every = [[row for rows in groups.values() for row in rows] for groups in shown.values()]
    for panel, rows in zip(axes[0], every, strict=True):
        h, floor, uniform = (column(rows, name) for name in ("entropy", "kl_floor", "kl_uniform"))
        known = np.isfinite(floor)
        if known.any():
            x, _, middle, _ = style.entropy_bands(h[known], floor[known])
            (handles["certified floor (median)"],) = panel.plot(x, middle, ":", color=style.INK, zorder=4)
        order, look = np.argsort(h), {"color": style.FAINT, "linewidth": 1}
        (handles["KL to the uniform distribution"],) = panel.plot(h[order], uniform[order], "--", **look)
        panel.set(xlim=(0, None))
    kl = column([row for rows in every for row in rows], "kl")
    top = max(1.1 * kl[np.isfinite(kl)].max(initial=0.0), 0.1)
    axes[0, 0].set(ylim=(-0.01 * top, top))
    style.legend_below(figure, handles)
    return figure


@style.figure_style()
def sorted_probabilities(
    curves: dict[str, np.ndarray], entropy: dict[str, np.ndarray], ranks: np.ndarray, title: str
) -> "Figure":
    """Sorted probabilities of targets: a panel a family, a line a target, colored by its entropy.

    Args:
        curves: of each family, ``[target, rank]``; zero where a target has no more tokens.
        entropy: of each family, nats, ``[target]``.
        ranks: the ranks of the columns, from 1 to |V|, ``[rank]``.
        title: above the panels.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    columns = min(len(curves), _PANELS_PER_ROW)
    rows = -(-len(curves) // columns)
    figure = style.new_figure(max(2.8 * columns, 4.2) + 0.8, 2.5 * rows + 0.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    # without the palest yellow, which a white page hides
    shades = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1.0, 256)))
    color = ScalarMappable(Normalize(0.0, math.log(ranks[-1])), shades)
    for axes, (name, p) in zip(grid, curves.items(), strict=False):
        shown = np.where(p > 0, p, np.nan)
        last = (p > 0).sum(1) - 1
        for line, end, shade in zip(shown, last, color.to_rgba(entropy[name]), strict=True):
            # a dot where a sparse target has no more tokens
            mark = "o" if end < len(ranks) - 1 else ""
            axes.plot(
                ranks, line, "-", marker=mark, markevery=[end], color=shade, alpha=0.6, linewidth=0.8, markersize=3
            )
        axes.axhline(1 / ranks[-1], linestyle="--", color=style.FAINT, linewidth=1)
        axes.set_title(name, fontsize=9)
    lowest = min(1 / ranks[-1], *(float(p[p > 0].min()) for p in curves.values()))
    grid[0].set(xscale="log", yscale="log", xlim=(0.8, 1.25 * ranks[-1]), ylim=(max(lowest, _LEAST_DRAWN) / 2, 2))
    style.log_axis(grid[0].xaxis)
    style.log_axis(grid[0].yaxis)
    for axes in grid[len(curves) :]:
        axes.remove()
    for axes in grid[max(len(curves) - columns, 0) : len(curves)]:
        axes.tick_params(labelbottom=True)
    figure.colorbar(color, ax=grid[: len(curves)].tolist(), label="entropy (nats)")
    figure.suptitle(title)
    figure.supxlabel("rank of the token (dashed: probability of the uniform distribution)", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


@style.figure_style()
def target_against_reached(records: Sequence[Row], title: str) -> "Figure":
    """Bars of target and reached probability of one target's token records."""
    figure = style.new_figure(7.0, 3.6)
    axes = figure.add_subplot()
    x = np.arange(len(records))
    for shift, name, color in ((-0.2, "target", style.COLORS[0]), (0.2, "reached", style.COLORS[1])):
        axes.bar(x + shift, column(records, f"{name}_probability"), 0.4, label=name, color=color)
    axes.set_xticks(x, [repr(r["token"])[:18] for r in records], rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="probability", title=title)
    axes.legend()
    axes.grid(visible=False, axis="x")
    return figure
