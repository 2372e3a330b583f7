"""Pictures of results."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lit_prompt.results.groups import entropy_groups

#: Smaller probabilities would take the picture's room from those that matter.
_LEAST_DRAWN = 1e-9
_PANELS_PER_ROW = 4

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Any:
    """A figure that no window and no global state holds."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _color(number: int) -> Any:
    """Color of a family: twenty that differ, the strong ones first."""
    from matplotlib import colormaps

    return colormaps["tab20"](number % 20 * 2 % 20 + number % 20 // 10)


def kl_against_entropy(table: pa.Table, title: str) -> "Figure":
    """KL against target entropy: a point a target, median and 10 to 90 % band by entropy.

    Certified floors (their medians) and the KL to the uniform distribution are drawn for scale.

    Args:
        table: result records; targets without a KL are left out.
        title: above the axes.

    Returns:
        A matplotlib figure.
    """
    rows = table.select(["family", "entropy", "kl", "kl_uniform"]).drop_null()
    family = np.array(rows["family"].to_pylist())
    h, kl, uniform = (np.array(rows[name]) for name in ("entropy", "kl", "kl_uniform"))
    figure = new_figure(7.0, 4.3)
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(family.tolist())):
        mine = family == name
        color = _color(number)
        axes.plot(h[mine], kl[mine], ".", color=color, alpha=0.45, markersize=5)
        x, low, middle, high = entropy_bands(h[mine], kl[mine])
        if len(x) > 1:
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, middle, "o-", color=color, markersize=4, label=f"{name} (median, 10 to 90 %)")
    known = table.select(["entropy", "kl", "kl_floor"]).drop_null()
    if len(known):
        x, _, middle, _ = entropy_bands(np.array(known["entropy"]), np.array(known["kl_floor"]))
        axes.plot(x, middle, "k:", linewidth=1.4, label="certified floor (median)")
    order = np.argsort(h)
    axes.plot(h[order], uniform[order], "--", color="0.6", linewidth=1, label="KL to the uniform distribution")
    top = max(float(kl.max()) * 1.15, 0.1) if len(kl) else 1.0
    axes.set(
        xlabel="entropy of the target (nats)", ylabel="KL(target || LM) (nats)", title=title, ylim=(-0.02 * top, top)
    )
    axes.grid(alpha=0.25)
    # looking for the best place takes time with the number of points
    axes.legend(fontsize=8, framealpha=0.9, loc="best" if len(kl) <= 1000 else "upper right")
    return figure


def entropy_bands(h: np.ndarray, kl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean entropy, and the KL's 10, 50 and 90 % quantiles, of each group of targets of about the same entropy.

    Args:
        h: entropies in nats, ``[target]``.
        kl: nats, ``[target]``.

    Returns:
        Four arrays, ``[group]``.
    """
    groups = entropy_groups(h)
    x = np.array([h[g].mean() for g in groups])
    low, middle, high = (np.array([np.quantile(kl[g], q) for g in groups]) for q in (0.1, 0.5, 0.9))
    return x, low, middle, high


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
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    # without the palest yellow, which a white page hides
    shades = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1.0, 256)))
    color = ScalarMappable(Normalize(0.0, math.log(ranks[-1])), shades)
    for axes, (name, p) in zip(panels, curves.items(), strict=False):
        shown = np.where(p > 0, p, np.nan)
        last = (p > 0).sum(1) - 1
        for line, end, shade in zip(shown, last, color.to_rgba(entropy[name]), strict=True):
            # a dot where a sparse target has no more tokens
            mark = "o" if end < len(ranks) - 1 else ""
            axes.plot(
                ranks, line, "-", marker=mark, markevery=[end], color=shade, alpha=0.6, linewidth=0.8, markersize=3
            )
        axes.axhline(1 / ranks[-1], linestyle="--", color="0.5", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.25)
    lowest = min(1 / ranks[-1], *(float(p[p > 0].min()) for p in curves.values()))
    panels[0].set(xscale="log", yscale="log", xlim=(0.8, 1.25 * ranks[-1]), ylim=(max(lowest, _LEAST_DRAWN) / 2, 2))
    for axes in panels[len(curves) :]:
        axes.remove()
    for axes in panels[max(len(curves) - columns, 0) : len(curves)]:
        axes.tick_params(labelbottom=True)
    figure.colorbar(color, ax=panels[: len(curves)].tolist(), label="entropy (nats)")
    figure.suptitle(title)
    figure.supxlabel("rank of the token (dashed: probability of the uniform distribution)", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure


def target_against_reached(records: Sequence[dict[str, Any]], title: str) -> "Figure":
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
    axes.bar(x - 0.2, [r["target_probability"] for r in records], 0.4, label="target")
    axes.bar(x + 0.2, [r["reached_probability"] for r in records], 0.4, label="reached")
    axes.set_xticks(x, [_tick(r["token"]) for r in records], rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="probability", title=title)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25, axis="y")
    return figure


def _tick(token: str) -> str:
    # a dollar sign would start a formula
    return repr(token)[:18].replace("$", r"\$")
