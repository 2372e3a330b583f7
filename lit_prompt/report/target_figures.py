"""Figures that compare targets: by entropy, with outliers, made by LMs."""

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.report.study import OUTLIER, RANDOM, Series, Study, plain_targets
from lit_prompt.results import style
from lit_prompt.results.comparisons import in_pairs, paired, with_partners
from lit_prompt.results.figures import bands_by_entropy, kl_against_entropy
from lit_prompt.results.rows import Row, column
from lit_prompt.results.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: the ratio to random targets that a summary of the paper reports for LMs of one architecture: 42 % lower
_PAPER_RATIO = 0.58

_MAKERS = {"own_lm": "own LM", "other_lm": "other LM", "other_tokenizer": "other tokenizer"}


def kl_by_entropy(study: Study) -> "Figure":
    """KL of random targets (of all where none are random) by entropy, with a panel per LM and a band per method."""
    by_lm = study.by_lm(study.main).items()
    return kl_against_entropy({lm: {s.label: plain_targets(s.rows) for s in mine} for lm, mine in by_lm}, study.colors)


def outlier_against_random(study: Study) -> "Figure | None":
    """Outlier targets beside their random partners, by entropy; None where there are none."""
    main = [replace(series, rows=rows) for series in study.main if (rows := _outliers_and_random(series))]
    by_lm = study.by_lm(main)
    if not by_lm:
        return None
    shown: dict[str, dict[str, dict[str, list[Row]]]] = {}
    for series in main:
        row = shown.setdefault(f"{series.label}: KL (nats)", {lm: {} for lm in by_lm})
        row[series.lm] = {f"{family} targets": series.of_family(family) for family in (RANDOM, OUTLIER)}
    colors = {f"{RANDOM} targets": style.FAINT, f"{OUTLIER} targets": style.COLORS[1]}
    figure, axes, handles = bands_by_entropy(shown, colors, height=2.9 if len(shown) < 3 else 2.2)
    for panel in axes[:, 0]:
        panel.set_ylim(0, None)  # of all panels of the row, once they hold everything
    style.drop_empty(axes)
    style.legend_below(figure, handles)
    return figure


def _outliers_and_random(series: Series) -> list[Row]:
    """Outlier and random targets of the same entropy, in pairs."""
    pairs = paired(series.rows)
    return list(chain.from_iterable(pairs.get((OUTLIER, RANDOM)) or pairs.get((RANDOM, OUTLIER), [])))


def by_maker(study: Study) -> "Figure | None":
    """KL by maker of the targets, and its ratio to that of random targets of their entropy; None with too few pairs."""
    made = [replace(series, rows=_made_and_partners(series)) for series in study.main]
    by_lm = study.by_lm(series for series in made if in_pairs(series.rows))
    if not by_lm:
        return None
    found = [row["family"] for mine in by_lm.values() for series in mine for row in series.rows]
    others = [family for family in found if family not in (OUTLIER, RANDOM)]
    families = [family for family in dict.fromkeys([*_MAKERS, *others, OUTLIER, RANDOM]) if family in found]
    figure, axes = style.panels(list(by_lm), rows=2, height=0.42 * len(families) + 1.0, sharey=True, sharex="row")
    handles: dict[str, Any] = {}
    for (strips, ratios), mine in zip(axes.T, by_lm.values(), strict=True):
        for number, series in enumerate(mine):
            shift, color = (number + 0.5) / len(mine) - 0.5, study.colors[series.label]
            at = {family: y + 0.7 * shift for y, family in enumerate(families)}
            for family, y in at.items():
                if len(kl := column(series.of_family(family), "kl")):
                    style.points(strips, kl, np.full(len(kl), y), color)
                    strips.plot([np.median(kl)] * 2, [y - 0.14, y + 0.14], color=color, linewidth=2.5)
            for effect in in_pairs(series.rows):
                if effect.other == RANDOM:
                    y = at[effect.first]
                    ratios.plot([effect.low, effect.high], [y, y], color=color, linewidth=2)
                    ratios.plot(effect.ratio, y, "o", color=color, markersize=5)
            handles[series.label] = strips.plot([], [], "o", color=color)[0]
        strips.set_xlabel("KL (nats); bar: median")
        ratios.axvline(1, color=style.INK, linewidth=1)
        handles["42 % lower (the paper's summary)"] = ratios.axvline(_PAPER_RATIO, color=style.FAINT, linestyle=":")
        ratios.set(xscale="log", xlabel="mean KL / that of random")
        style.log_axis(ratios.xaxis)
    for panel in axes[:, 0]:
        panel.set_yticks(range(len(families)), [visible(_MAKERS.get(family, family)) for family in families])
        panel.set_ylim(len(families) - 0.5, -0.5)
    style.legend_below(figure, handles)
    return figure


def _made_and_partners(series: Series) -> list[Row]:
    """Targets with random partners, but for outlier targets, and all their partners."""
    pairs = with_partners(series.rows)
    made = {id(row): row for row, partner in pairs if partner["family"] == RANDOM and row["family"] != OUTLIER}
    return [*made.values(), *(partner for row, partner in pairs if id(row) in made)]
