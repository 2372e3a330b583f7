"""The figure of mixtures: KL against the number of prompts that a target is given."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lit_prompt.records.results import method_label
from lit_prompt.report.method_figures import THIRDS
from lit_prompt.report.runs import Run
from lit_prompt.report.study import Study, identity
from lit_prompt.results import style
from lit_prompt.results.rows import Row, column, entropy_share, grouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def kl_by_components(study: Study) -> "Figure | None":
    """Median KL against the most components, by entropy, on the targets that runs have in common.

    A panel for each LM, method, length of prompts and other settings; None where none has runs of several numbers of
    components.
    """
    groups = {
        key: found
        for key, runs in grouped([run for run in study.runs if run.rows], _searched).items()
        if (found := _common(runs))
    }
    if not groups:
        return None
    figure, axes = style.panels([title for title, _ in groups], sharey=True)
    handles = {}
    for panel, by_count in zip(axes[0], groups.values(), strict=True):
        counts = sorted(by_count)
        share = entropy_share(by_count[counts[0]])
        for number, (text, line, low, high) in enumerate(THIRDS):
            mine = (share >= low) & (share < high)
            if not mine.any():
                continue
            y = [np.median(column(by_count[count], "kl")[mine]) for count in counts]
            (handles[text],) = panel.plot(counts, y, line, color=f"C{number}", markersize=5)
            floor = column(by_count[counts[0]], "kl_floor")[mine]
            if np.isfinite(floor).all():
                name = f"floor of one prompt, {text}"
                handles[name] = panel.axhline(float(np.median(floor)), color=f"C{number}", linewidth=1, alpha=0.5)
        panel.set_xscale("log")
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.set(xlabel="most prompts of a mixture")
    axes[0, 0].set(ylim=(0, None), ylabel="median KL (nats)")
    style.legend_below(figure, handles)
    return figure


def _searched(run: Run) -> tuple[str, str]:
    row = run.rows[0]
    title = f"{Path(row['lm']).name}, {method_label(str(row['method']))}, length {row['prompt_length']}"
    others = {name: value for name, value in run.settings.items() if name != "components"}
    return title, json.dumps(others, sort_keys=True, default=str)


def _common(runs: list[Run]) -> dict[int, list[Row]]:
    """Results by the most components of a run, of the targets that all have; nothing where there is one number."""
    by_count = {int(run.settings.get("components", 1)): {identity(row): row for row in run.rows} for run in runs}
    keys = [key for key in next(iter(by_count.values())) if all(key in rows for rows in by_count.values())]
    if len(by_count) < 2 or not keys:
        return {}
    return {count: [rows[key] for key in keys] for count, rows in by_count.items()}
