"""Pictures of results."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.results.rows import Row, column
from lit_prompt.results.style import (
    COLORS,
    ENTROPY_LABEL,
    FAINT,
    INK,
    KL_LABEL,
    band,
    color_of,
    entropy_bands,
    figure_style,
    legend_below,
    log_axis,
    new_figure,
    panels,
)

#: Smaller probabilities would take the picture's room from those that matter.
_LEAST_DRAWN = 1e-9
_PANELS_PER_ROW = 4

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@figure_style()
def kl_against_entropy(
    shown: Mapping[str, Mapping[str, Sequence[Row]]], colors: Mapping[str, str] | None = None
) -> "Figure":
    """KL against target entropy: a point a target, median and 10 to 90 % band by entropy.

    Certified floors (their medians) and the KL to the uniform distribution are drawn for scale.

    Args:
        shown: a panel for each title, in it a band for each name, of result records; those without a finite KL are left
            out.
        colors: of the names; None for the palette's in turn.
    """
    colors = colors or color_of(list(dict.fromkeys(name for groups in shown.values() for name in groups)))
    figure, axes = panels(list(shown), sharey=True, height=3.6)
    handles: dict[str, Any] = {}
    top = 0.1
    for panel, groups in zip(axes[0], shown.values(), strict=True):
        found: list[Row] = []
        for name, rows in groups.items():
            known = [row for row in rows if row["kl"] is not None and math.isfinite(row["kl"])]
            h, kl = column(known, "entropy"), column(known, "kl")
            handles[f"{name}: median, 10 to 90 %"] = band(panel, h, kl, colors[name])
            top = max(top, 1.1 * kl.max(initial=0.0))
            found += known
        _references(panel, found, handles)
        panel.set(xlabel=ENTROPY_LABEL, xlim=(0, None))
    axes[0, 0].set(ylabel=KL_LABEL, ylim=(-0.01 * top, top))
    legend_below(figure, handles)
    return figure


def _references(panel: "Axes", rows: Sequence[Row], handles: dict[str, Any]) -> None:
    """The certified floor, and the KL to the uniform distribution."""
    h, floor = column(rows, "entropy"), column(rows, "kl_floor")
    known = np.isfinite(floor)
    if known.any():
        x, _, middle, _ = entropy_bands(h[known], floor[known])
        (handles["certified floor (median)"],) = panel.plot(x, middle, ":", color=INK, linewidth=1.6, zorder=4)
    order = np.argsort(h)
    (handles["KL to the uniform distribution"],) = panel.plot(
        h[order], column(rows, "kl_uniform")[order], "--", color=FAINT, linewidth=1
    )


@figure_style()
def sorted_probabilities(
    curves: dict[str, np.ndarray], entropy: dict[str, np.ndarray], ranks: np.ndarray, title: str
) -> "Figure":
    """Sorted probabilities of targets: a panel a family, a line a target, colored by its entropy.

    Args:
        curves: of each family, ``[target, rank]``; zero where a target has no more tokens.
        entropy: of each family, nats, ``[target]``.
        ranks: the ranks of the columns, from 1 to |V|, ``[rank]``.
        title: above the panels.

    Returns:
        A matplotlib figure.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    columns = min(len(curves), _PANELS_PER_ROW)
    rows = -(-len(curves) // columns)
    figure = new_figure(max(2.8 * columns, 4.2) + 0.8, 2.5 * rows + 0.6)
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
        axes.axhline(1 / ranks[-1], linestyle="--", color=FAINT, linewidth=1)
        axes.set_title(name, fontsize=9)
    lowest = min(1 / ranks[-1], *(float(p[p > 0].min()) for p in curves.values()))
    grid[0].set(xscale="log", yscale="log", xlim=(0.8, 1.25 * ranks[-1]), ylim=(max(lowest, _LEAST_DRAWN) / 2, 2))
    log_axis(grid[0].xaxis)
    log_axis(grid[0].yaxis)
    for axes in grid[len(curves) :]:
        axes.remove()
    for axes in grid[max(len(curves) - columns, 0) : len(curves)]:
        axes.tick_params(labelbottom=True)
    figure.colorbar(color, ax=grid[: len(curves)].tolist(), label="entropy (nats)")
    figure.suptitle(title)
    figure.supxlabel("rank of the token (dashed: probability of the uniform distribution)", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


@figure_style()
def target_against_reached(records: Sequence[Row], title: str) -> "Figure":
    """Bars of target and reached probability of one target's top tokens.

    Args:
        records: token records of one target (see ``PromptModule.predict_step``).
        title: above the axes.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(7.0, 3.6)
    axes = figure.add_subplot()
    x = np.arange(len(records))
    for shift, name, color in ((-0.2, "target", COLORS[0]), (0.2, "reached", COLORS[1])):
        axes.bar(x + shift, column(records, f"{name}_probability"), 0.4, label=name, color=color)
    axes.set_xticks(x, [repr(r["token"])[:18] for r in records], rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="probability", title=title)
    axes.legend()
    axes.grid(visible=False, axis="x")
    return figure
