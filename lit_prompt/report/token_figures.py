"""What a prompt of so many tokens cannot say."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lit_prompt.records.results import CURVE_LENGTHS
from lit_prompt.report.method_figures import THIRDS
from lit_prompt.report.study import Identity, Series, Study
from lit_prompt.results import style
from lit_prompt.results.rows import Row, column, entropy_share, grouped, has_mixtures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "vo^"


def token_floor_by_length(study: Study) -> "Figure | None":
    """Median token floors against the number of tokens, and what hard prompts reach; None where none are known.

    Mixtures of prompts have lower floors, and a panel of their own. Where runs with different tokens or numbers of
    targets share a panel, a target's floor is the lowest of theirs, which holds for all.
    """
    known = [series for series in study.series if series.with_columns("token_floor_curve")]
    if not known:
        return None
    panels = grouped(known, _panel)
    figure, axes = style.panels(list(panels), sharey=True)
    handles: dict[str, Any] = {}
    for panel, mine in zip(axes[0], panels.values(), strict=True):
        targets: dict[Identity, Row] = {}
        for series in mine:
            for key, row in series.by_target().items():
                if (curve := row["token_floor_curve"]) is not None:
                    others = targets.get(key, row)["token_floor_curve"]
                    targets[key] = row | {"token_floor_curve": np.minimum(curve, others)}
        for (text, line, _, _), rows in zip(THIRDS, _thirds(list(targets.values())), strict=True):
            if rows:
                middle = np.median([row["token_floor_curve"] for row in rows], axis=0)
                (handles[f"token floor, {text}"],) = panel.plot(CURVE_LENGTHS, middle, line[1:], color=style.INK)
        for series in mine:
            thirds = _thirds(series.with_columns("token_floor_curve"))
            for (text, *_), marker, rows in zip(THIRDS, _MARKERS, thirds, strict=True):
                if rows:
                    kl, look = float(np.median(column(rows, "kl"))), {"color": study.colors[series.label]}
                    (point,) = panel.plot(series.length, kl, marker, markersize=6, linestyle="none", **look)
                    handles[f"{series.name}, {text}"] = point
        panel.set(xscale="log", xlabel="tokens of the prompt")
        style.log_axis(panel.xaxis)
    axes[0, 0].set(ylim=(0, None), ylabel="median (nats)")
    style.legend_below(figure, handles)
    return figure


def _panel(series: Series) -> str:
    return f"{series.lm}, {series.name}" if has_mixtures(series.rows) else series.lm


def _thirds(rows: list[Row]) -> list[list[Row]]:
    """Result records of each third of [0, ln|V|]."""
    shares = entropy_share(rows)
    return [[row for row, share in zip(rows, shares, strict=True) if low <= share < high] for *_, low, high in THIRDS]
