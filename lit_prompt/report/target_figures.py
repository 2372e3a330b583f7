"""Figures that compare targets: by entropy, with outliers, made by LMs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.report.runs import Row
from lit_prompt.report.study import OUTLIER, RANDOM, Series, Study, column, plain_targets
from lit_prompt.report.style import COLORS, FAINT, INK, color_of, legend_below, log_axis, panels, plain, points
from lit_prompt.results.comparisons import in_pairs, with_partners
from lit_prompt.results.figures import entropy_bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: the ratio to random targets that a summary of the paper reports for LMs of one architecture: 42 % lower
PAPER_RATIO = 0.58

_MAKERS = {"own_lm": "own LM", "other_lm": "other LM", "other_tokenizer": "other tokenizer"}
_X = "entropy of the target (nats)"
_Y = "KL(target || LM) (nats)"


def kl_by_entropy(study: Study) -> "Figure":
    """KL of random targets (of all where none are random) against their entropy, with floor and KL to uniform."""
    figure, axes = panels(study.lms, sharey=True, height=3.6)
    colors = color_of(study.names)
    handles: dict[str, Any] = {}
    for panel, lm in zip(axes[0], study.lms, strict=True):
        for series in study.on(lm, study.main):
            rows = plain_targets(series.rows)
            h, kl = column(rows, "entropy"), column(rows, "kl")
            handles[f"{series.label}: median, 10 to 90 %"] = _band(panel, h, kl, colors[series.name])
        panel.set(xlabel=_X)
    top = axes[0, 0].get_ylim()[1]
    for panel, lm in zip(axes[0], study.lms, strict=True):
        _references(panel, study.on(lm, study.main), handles)
        panel.set(xlim=(0, None), ylim=(0, top))
    axes[0, 0].set_ylabel(_Y)
    legend_below(figure, handles)
    return figure


def _references(panel: "Axes", mine: list[Series], handles: dict[str, Any]) -> None:
    """The certified floor, and the KL to the uniform distribution."""
    rows = {key: row for series in mine for key, row in series.by_target().items()}
    random = plain_targets(list(rows.values()))
    h, floor = column(random, "entropy"), column(random, "kl_floor")
    known = ~np.isnan(floor)
    if known.any():
        x, _, middle, _ = entropy_bands(h[known], floor[known])
        (handles["certified floor (median)"],) = panel.plot(x, middle, "-", color=INK, linewidth=1.6, zorder=4)
    order = np.argsort(h)
    (handles["KL to the uniform distribution"],) = panel.plot(
        h[order], column(random, "kl_uniform")[order], "--", color=FAINT, linewidth=1
    )


def _band(axes: "Axes", h: Any, kl: Any, color: str) -> Any:
    points(axes, h, kl, color)
    x, low, middle, high = entropy_bands(h, kl)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    (line,) = axes.plot(x, middle, "o-", color=color, markersize=3.5, linewidth=1.6)
    return line


def outlier_against_random(study: Study) -> "Figure | None":
    """Outlier targets beside their random partners, by entropy; None where there are none."""
    shown = [series for series in study.main if series.of_family(OUTLIER) and series.of_family(RANDOM)]
    if not shown:
        return None
    lms = [lm for lm in study.lms if study.on(lm, shown)]
    labels = list(dict.fromkeys(series.label for series in shown))
    figure, axes = panels(lms, rows=len(labels), height=2.9 if len(labels) < 3 else 2.2, sharex="col", sharey="row")
    handles: dict[str, Any] = {}
    for row, label in zip(axes, labels, strict=True):
        for panel, lm in zip(row, lms, strict=True):
            for series in study.on(lm, [each for each in shown if each.label == label]):
                partners, outliers = _in_pairs(series)
                for name, rows, color in (("random", partners, FAINT), ("outlier", outliers, COLORS[1])):
                    handles[f"{name} targets: median, 10 to 90 %"] = _band(
                        panel, column(rows, "entropy"), column(rows, "kl"), color
                    )
        row[0].set_ylim(0, None)  # of all panels of the row, once they hold everything
        row[0].set_ylabel(f"{plain(label)}: KL (nats)")
    for panel in axes[-1]:
        panel.set_xlabel(_X)
    legend_below(figure, handles)
    return figure


def _in_pairs(series: Series) -> tuple[list[Row], list[Row]]:
    """Random and outlier targets of the same entropy: partners, or else partners of the same targets."""
    of: dict[tuple[str, str], dict[str, Row]] = {}
    for row in series.rows:
        if row["family"] in (RANDOM, OUTLIER):
            of.setdefault((row["run"], row["partner_of"] or row["target_id"]), {})[row["family"]] = row
    pairs = [pair for pair in of.values() if len(pair) == 2]
    pairs = [pair for pair in pairs if pair[OUTLIER]["partner_of"] is None] or pairs
    return [pair[RANDOM] for pair in pairs], [pair[OUTLIER] for pair in pairs]


def by_maker(study: Study) -> "Figure | None":
    """KL by who made the targets, and its ratio to that of random targets of their entropy; None with too few pairs."""
    made = {id(series): _made_and_partners(series) for series in study.main}
    shown = [series for series in study.main if in_pairs(made[id(series)])]
    if not shown:
        return None
    families = list(dict.fromkeys(row["family"] for series in shown for row in made[id(series)]))
    first, last = [family for family in _MAKERS if family in families], [OUTLIER, RANDOM]
    rows = [*first, *(family for family in families if family not in first + last)]
    rows += [family for family in last if family in families]
    lms = [lm for lm in study.lms if study.on(lm, shown)]
    figure, axes = panels(lms, rows=2, height=0.42 * len(rows) + 1.0, sharey=True, sharex="row")
    colors, handles = color_of(study.names), {}
    for (strips, ratios), lm in zip(axes.T, lms, strict=True):
        mine = study.on(lm, shown)
        for number, series in enumerate(mine):
            shift, color = (number + 0.5) / len(mine) - 0.5, colors[series.name]
            at = {family: y + 0.7 * shift for y, family in enumerate(rows)}
            _strips(strips, made[id(series)], at, color)
            _ratios(ratios, made[id(series)], at, color)
            handles[series.label] = strips.plot([], [], "o", color=color)[0]
        strips.set_xlabel("KL (nats); bar: median")
        ratios.axvline(1, color=INK, linewidth=1)
        handles["42 % lower (the paper's summary)"] = ratios.axvline(PAPER_RATIO, color=FAINT, linestyle=":")
        ratios.set(xscale="log", xlabel="mean KL / that of random")
        log_axis(ratios.xaxis)
    for panel in axes[:, 0]:
        panel.set_yticks(range(len(rows)), [plain(_MAKERS.get(family, family)) for family in rows])
        panel.set_ylim(len(rows) - 0.5, -0.5)
    legend_below(figure, handles)
    return figure


def _made_and_partners(series: Series) -> list[Row]:
    """Targets with random partners, but for outlier targets, and all their partners."""
    pairs = with_partners(series.rows)
    made = {id(row): row for row, partner in pairs if partner["family"] == RANDOM and row["family"] != OUTLIER}
    return [*made.values(), *(partner for row, partner in pairs if id(row) in made)]


def _strips(panel: "Axes", rows: list[Row], at: dict[str, float], color: str) -> None:
    for family, y in at.items():
        kl = column([row for row in rows if row["family"] == family], "kl")
        if len(kl):
            points(panel, kl, np.full(len(kl), y), color)
            panel.plot([np.median(kl)] * 2, [y - 0.14, y + 0.14], color=color, linewidth=2.5)


def _ratios(panel: "Axes", rows: list[Row], at: dict[str, float], color: str) -> None:
    for effect in in_pairs(rows):
        if effect.other == RANDOM:
            y = at[effect.first]
            panel.plot([effect.low, effect.high], [y, y], color=color, linewidth=2)
            panel.plot(effect.ratio, y, "o", color=color, markersize=5)
