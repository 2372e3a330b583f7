"""Pictures of results."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.results import style
from lit_prompt.results.rows import MOST_NAMED, Row, column, has_mixtures
from lit_prompt.results.text import visible
from lit_prompt.results.tokens_shown import named

#: Smaller probabilities would take the picture's room from those that matter.
_LEAST_DRAWN = 1e-9
_PANELS_PER_ROW = 4
_BAR_PANELS_PER_ROW = 3
_MOST_BARS = 12
_LONGEST_LABEL = 28

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
                if not known.any():
                    continue
                drawn = style.band(panel, h[known], np.maximum(y[known], least), colors[name])
                handles[f"{name}: median, 10 to 90 %" if style.has_bands(h[known]) else name] = drawn
    for panel in axes[-1]:
        panel.set(xlabel=style.ENTROPY_LABEL)
    return figure, axes, handles


@style.figure_style()
def kl_against_entropy(
    shown: Mapping[str, Mapping[str, Sequence[Row]]], colors: Mapping[str, str] | None = None
) -> "Figure":
    """KL against target entropy, with certified floors (of bands their medians) and the KL to the uniform distribution.

    Few targets that are no band bear their names.

    Args:
        shown: by title a panel, by name the result records of a band.
        colors: of the names; None for the palette's in turn.
    """
    colors = colors or style.color_of(name for groups in shown.values() for name in groups)
    figure, axes, handles = bands_by_entropy({style.KL_LABEL: shown}, colors)
    every = [row for groups in shown.values() for rows in groups.values() for row in rows]
    kl, floor = column(every, "kl"), f"certified floor{' of one prompt' * has_mixtures(every)}"
    top = max(1.1 * kl[np.isfinite(kl)].max(initial=0.0), 0.1)
    for panel, groups in zip(axes[0], shown.values(), strict=True):
        handles |= _draw_floors(panel, groups, colors, floor)
        rows = [row for rows in groups.values() for row in rows]
        h, uniform = column(rows, "entropy"), column(rows, "kl_uniform")
        if (uniform <= top).any():
            order, look = np.argsort(h), {"color": style.FAINT, "linewidth": 1}
            (handles["KL to the uniform distribution"],) = panel.plot(h[order], uniform[order], "--", **look)
        _name_few(panel, groups)
        panel.set(xlim=(0, None))
    axes[0, 0].set(ylim=(-0.01 * top, top))
    style.legend_below(figure, handles)
    return figure


def _draw_floors(
    panel: Any, groups: Mapping[str, Sequence[Row]], colors: Mapping[str, str], told: str
) -> dict[str, Any]:
    """Draws certified floors, once for groups of the same targets; returns what stands for them in the legend."""
    sets: dict[frozenset[Any], str] = {}
    for name, rows in groups.items():
        if np.isfinite(column(rows, "kl_floor")).any():
            sets.setdefault(frozenset((row.get("target_id"), row["entropy"]) for row in rows), name)
    handles = {}
    for name in sets.values():
        h, floor = column(groups[name], "entropy"), column(groups[name], "kl_floor")
        h, floor = h[np.isfinite(floor)], floor[np.isfinite(floor)]
        of, color = ("", style.INK) if len(sets) == 1 else (f"{name}: ", colors[name])
        if style.has_bands(h):
            x, _, middle, _ = style.entropy_bands(h, floor)
            (handles[f"{of}{told} (median)"],) = panel.plot(x, middle, ":", color=color, zorder=4)
        else:
            (handles[f"{of}{told}"],) = panel.plot(h, floor, "_", color=color, markersize=12, zorder=4)
    return handles


def _name_few(panel: Any, groups: Mapping[str, Sequence[Row]]) -> None:
    """Writes the names of targets that are no band beside their points, where they are few."""
    single = [rows for rows in groups.values() if not style.has_bands(column(rows, "entropy"))]
    points = {row.get("target_id", ""): row for rows in single for row in rows if np.isfinite(column([row], "kl")[0])}
    if len(points) > MOST_NAMED:
        return
    for name, row in points.items():
        at = (row["entropy"], row["kl"])
        look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "annotation_clip": False}
        panel.annotate(visible(name), at, xytext=(4, 4), rotation=30, rotation_mode="anchor", **look)


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
        axes.set_title(visible(name), fontsize=9)
    lowest = min(1 / ranks[-1], *(float(p[p > 0].min()) for p in curves.values()))
    grid[0].set(xscale="log", yscale="log", xlim=(0.8, 1.25 * ranks[-1]), ylim=(max(lowest, _LEAST_DRAWN) / 2, 2))
    style.log_axis(grid[0].xaxis)
    style.log_axis(grid[0].yaxis)
    for axes in grid[len(curves) :]:
        axes.remove()
    for axes in grid[max(len(curves) - columns, 0) : len(curves)]:
        axes.tick_params(labelbottom=True)
    figure.colorbar(color, ax=grid[: len(curves)].tolist(), label="entropy (nats)")
    figure.suptitle(visible(title))
    figure.supxlabel("rank of the token (dashed: probability of the uniform distribution)", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


@style.figure_style()
def target_against_reached(shown: Mapping[str, Sequence[Row]]) -> "Figure":
    """Bars of target and reached probability: by title a panel of one target's token records."""
    columns = min(len(shown), _BAR_PANELS_PER_ROW)
    rows = -(-len(shown) // columns)
    bars = {title: records[:_MOST_BARS] for title, records in shown.items()}
    most = max(map(len, bars.values()))
    figure = style.new_figure(max(4.2 * columns, 5.0), (0.26 * most + 0.9) * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    handles = {}
    for axes, (title, records) in zip(grid, bars.items(), strict=False):
        y = np.arange(len(records))
        for shift, name, color in ((-0.2, "target", style.COLORS[0]), (0.2, "reached", style.COLORS[1])):
            handles[name] = axes.barh(y + shift, column(records, f"{name}_probability"), 0.4, color=color)
        axes.set_yticks(y, [_short(named(record)) for record in records], fontsize=8)
        axes.set_title(visible(title), fontsize=9)
        axes.set(ylim=(most - 0.4, -0.6), xlim=(0, None), xlabel="probability")  # bars of all panels are equally wide
        axes.grid(visible=False, axis="y")
    for axes in grid[len(bars) :]:
        axes.remove()
    style.legend_below(figure, handles)
    return figure


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
