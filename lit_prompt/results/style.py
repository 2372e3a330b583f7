"""The look of all figures: one palette, one style, and the pieces that they are made of."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_prompt.results.rows import MOST_NAMED, entropy_groups
from lit_prompt.results.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: colors that the color-blind can tell apart (Okabe and Ito), then lighter ones; names take them in turn
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#8C6D31",
    "#7FB8D8", "#EAAE80", "#80CEB9", "#E5BCD3", "#F2CF80", "#ABDAF4", "#BF9DC6", "#C5B698",
)  # fmt: skip
INK = "#22272e"
FAINT = "#8b949e"
MARKERS = "osD^vPX*"

ENTROPY_LABEL = "entropy of the target (nats)"
KL_LABEL = "KL(target || LM) (nats)"

_STYLE: Any = {
    "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelcolor": INK, "axes.edgecolor": FAINT, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#d0d7de", "grid.linewidth": 0.6,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": 9,
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "figure.dpi": 150,
    "svg.hashsalt": "lit_prompt",  # the same file for the same numbers
    "pdf.fonttype": 42,  # text that can be searched
}  # fmt: skip
#: more points than this are rasterized in SVG and PDF
_MOST_VECTOR_POINTS = 3000


@contextmanager
def figure_style() -> Iterator[None]:
    """Figures that are made in the block, or by the decorated function, have our look."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def color_of(names: Iterable[str]) -> dict[str, str]:
    """A color for each name."""
    return dict(zip(dict.fromkeys(names), cycle(COLORS), strict=False))


def marker_of(names: Iterable[str]) -> dict[str, str]:
    """A marker for each name."""
    return dict(zip(dict.fromkeys(names), cycle(MARKERS), strict=False))


def new_figure(width: float, height: float) -> "Figure":
    """A figure, width and height in inches, that no window and no global state holds."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(titles: Sequence[str], rows: int = 1, height: float = 3.2, **kwargs: Any) -> tuple["Figure", Any]:
    """A figure and its axes, ``[row, column]``: a column for each title, rows of a height in inches."""
    figure = new_figure(max(7.0, 3.4 * len(titles)), height * rows + 0.5)
    axes = figure.subplots(rows, len(titles), squeeze=False, **kwargs)
    for column, title in zip(axes[0], titles, strict=True):
        column.set_title(visible(title), loc="left")
    return figure, axes


def drop_empty(axes: Any) -> None:
    """Takes the panels without data out of a grid ``[row, column]``; titles and labels at its edges stay."""
    for column in axes.T:
        if full := [panel for panel in column if panel.has_data()]:
            full[0].set_title(column[0].get_title("left"), loc="left")
            full[-1].set_xlabel(column[-1].get_xlabel())
            full[-1].tick_params(labelbottom=True)
    for row in axes:
        if full := [panel for panel in row if panel.has_data()]:
            full[0].set_ylabel(row[0].get_ylabel())
            full[0].tick_params(labelleft=True)
    for panel in axes.flat:
        if not panel.has_data():
            panel.remove()


def points(axes: "Axes", x: Any, y: Any, color: str, **kwargs: Any) -> None:
    """Faint points, rasterized where there are too many for a vector graphic."""
    given = {"alpha": 0.35, "s": 11, "linewidths": 0} | kwargs
    axes.scatter(x, y, color=color, rasterized=len(x) > _MOST_VECTOR_POINTS, **given)


def entropy_bands(h: NDArray[Any], kl: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Mean entropy, and the KL's 10, 50 and 90 % quantiles, of targets of about the same entropy: four ``[group]``."""
    groups = entropy_groups(h)
    return tuple(np.array([(h[g].mean(), *np.quantile(kl[g], (0.1, 0.5, 0.9))) for g in groups]).reshape(-1, 4).T)


def has_bands(h: NDArray[Any]) -> bool:
    """Whether medians say something of targets of these entropies (nats, ``[target]``).

    That is so of many targets, and of few that are a grid with several at an entropy.
    """
    return len(h) > MOST_NAMED or len(h) >= 2 * len(np.unique(np.round(h, 1)))


def band(axes: "Axes", h: NDArray[Any], kl: NDArray[Any], color: str) -> Any:
    """A point per target, and the median and 10 to 90 % band by entropy; returns what stands for it in a legend.

    Of few targets of different entropies (:func:`has_bands`) the points alone are drawn, and returned.
    """
    if not has_bands(h):
        return axes.plot(h, kl, "o", color=color, markersize=5)[0]
    points(axes, h, kl, color)
    x, low, middle, high = entropy_bands(h, kl)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    (line,) = axes.plot(x, middle, "o-", color=color, markersize=3.5, linewidth=1.6)
    return line


def log_axis(axis: "Axis") -> None:
    """Plain numbers on a logarithmic axis, between its powers of ten too where they are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: "Figure", handles: dict[str, Any]) -> None:
    """One legend for all panels, below them."""
    for columns in range(min(len(handles), 4), 0, -1):
        labels = [visible(label) for label in handles]
        legend = figure.legend(handles.values(), labels, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
