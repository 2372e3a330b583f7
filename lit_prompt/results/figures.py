"""Pictures of results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lit_prompt.results.groups import entropy_groups

#: Smaller probabilities would take the picture's room from those that matter.
_LEAST_DRAWN = 1e-9
_FEWEST_FOR_MEDIAN = 5

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Any:
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
    figure = _figure(7.0, 4.3)
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(family.tolist())):
        mine = family == name
        color = _color(number)
        axes.plot(h[mine], kl[mine], ".", color=color, alpha=0.45, markersize=5)
        x, low, middle, high = _bands(h[mine], kl[mine])
        if len(x) > 1:
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, middle, "o-", color=color, markersize=4, label=f"{name} (median, 10 to 90 %)")
    known = table.select(["entropy", "kl", "kl_floor"]).drop_null()
    if len(known):
        x, _, middle, _ = _bands(np.array(known["entropy"]), np.array(known["kl_floor"]))
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


def _bands(h: np.ndarray, kl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean entropy and quantiles of the KL of each group of targets."""
    groups = entropy_groups(h)
    x = np.array([h[g].mean() for g in groups])
    low, middle, high = (np.array([np.quantile(kl[g], q) for g in groups]) for q in (0.1, 0.5, 0.9))
    return x, low, middle, high


def sorted_probabilities(curves: dict[str, np.ndarray], ranks: np.ndarray, title: str) -> "Figure":
    """Sorted probabilities of targets, a thin line a target and a thick one for a family's median.

    Args:
        curves: of each family, ``[target, rank]``; zero where a target has no more tokens.
        ranks: the ranks of the columns, from 1, ``[rank]``.
        title: above the axes.

    Returns:
        A matplotlib figure.
    """
    figure = _figure(7.0, 4.3)
    axes = figure.add_subplot()
    lowest = 1.0
    for number, (name, p) in enumerate(curves.items()):
        color = _color(number)
        few = len(p) < _FEWEST_FOR_MEDIAN
        alpha = 0.9 if few else max(0.1, min(0.5, 8 / len(p)))
        shown = np.where(p > 0, p, np.nan)
        last = (p > 0).sum(1) - 1
        ends = last < len(ranks) - 1  # where a sparse target has no more tokens
        axes.plot(ranks, shown.T, "-", color=color, alpha=alpha, linewidth=1.2 if few else 0.7)
        axes.plot(ranks[last[ends]], p[ends, last[ends]], "o", color=color, alpha=alpha, markersize=3)
        middle = np.median(p, axis=0)
        middle = np.where((middle > 0) & (not few), middle, np.nan)
        axes.plot(ranks, middle, "-", color=color, linewidth=2.2, label=name)
        lowest = min(lowest, float(np.nanmin(shown)))
    axes.axhline(1 / ranks[-1], linestyle="--", color="0.6", linewidth=1, label="uniform over all")
    axes.set(xscale="log", yscale="log", xlabel="rank of the token", ylabel="probability", title=title)
    axes.set_ylim(max(lowest, _LEAST_DRAWN) / 2, 2)
    axes.grid(alpha=0.25)
    axes.legend(
        fontsize=8,
        framealpha=0.9,
        title="thick: median",
        title_fontsize=8,
        loc="lower left",
        ncols=1 + len(curves) // 10,
    )
    return figure


def target_against_reached(records: Sequence[dict[str, Any]], title: str) -> "Figure":
    """Bars of target and reached probability of one target's top tokens.

    Args:
        records: token records of one target (see ``PromptModule.predict_step``).
        title: above the axes.

    Returns:
        A matplotlib figure.
    """
    figure = _figure(7.0, 3.6)
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
