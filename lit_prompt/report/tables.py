"""The tables of a report: methods with their baselines, the best and the worst prompts, other LMs, the runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from lit_prompt.records.tasks import has_tasks
from lit_prompt.report.runs import Run
from lit_prompt.report.study import Study, identity
from lit_prompt.results.rows import MOST_NAMED, Row, column, grouped, has_mixtures, searched_objective
from lit_prompt.results.sampling_shown import DRAWS_TOLD, sampling_table
from lit_prompt.results.table import Table, count, quantile
from lit_prompt.results.task_tables import marked, shares_table, tasks_table
from lit_prompt.results.text import nats, number
from lit_prompt.results.token_floors_shown import token_floor_told
from lit_prompt.results.transfer import side_by_side

_SHOWN_PROMPTS = 3
_SHOWN_TOKENS = 4

#: column of the results, its heading
_BASELINES = {
    "kl_floor": "floor", "excess": "excess", "kl_floor_tokens": "token floor", "excess_tokens": "above both",
    "kl_text": "as text", "kl_best_natural": "best natural",
    "kl_best_random": "best random", "kl_unprompted": "no prompt", "kl_asking": "asking", "kl_uniform": "uniform",
}  # fmt: skip


def overview(study: Study) -> Table:
    """A row for each LM and method: KL, another objective's mean, and means of what they are to be compared with.

    Where they are known, also the mean KL of held-out targets and the median of draws that tell the LM from a target.
    """
    known = {name for series in study.series for row in series.rows for name in _BASELINES if row[name] is not None}
    baselines = {name: head for name, head in _BASELINES.items() if name in known}
    objectives = {series.label: searched_objective(series.rows) for series in study.series}
    others, held_out = any(objectives.values()), any(series.held_out for series in study.series)
    draws = any(series.with_columns("draws_to_tell") for series in study.series)
    rows = []
    for lm, mine in study.by_lm().items():
        for series in mine:
            low, middle, high = (quantile("kl", q)(series.rows) for q in (0.1, 0.5, 0.9))
            cells = [lm, series.label, str(len(series.rows)), _mean(series.rows, "kl"), middle, f"{low} to {high}"]
            cells += [_mean(series.held_out, "kl")] if held_out else []
            cells += [objectives[series.label] or "KL", _mean(series.rows, "objective_value")] if others else []
            cells += [_mean(series.rows, name) for name in baselines]
            cells += [count("draws_to_tell")(series.rows)] if draws else []
            rows.append([*cells, _mean(series.rows, "seconds", 2)])
    head = ["LM", "method", "targets", "KL", "median", "10 to 90 %", *(["held out"] if held_out else [])]
    head += [*(["objective", "its mean"] if others else []), *baselines.values(), *(["draws"] if draws else [])]
    caption = ["means over targets, but for median and quantiles"]
    caption += ["held out: over targets that were not searched for"] if held_out else []
    if "kl_floor_tokens" in baselines:
        bounded = [row for series in study.series for row in series.with_columns("kl_floor_tokens")]
        of_mixtures = ", of a mixture less the token floor alone, as the floor is of single prompts"
        caption += [
            token_floor_told(bounded),
            f"above both: the KL less the larger floor{of_mixtures * has_mixtures(bounded)}",
        ]
    caption += ["asking: for a prompt that asks for a target in words"] if "kl_asking" in baselines else []
    caption += [f"draws: {DRAWS_TOLD}; their median"] if draws else []
    return Table([*head, "seconds"], rows, ["LM", "method", "objective"], caption="; ".join(caption))


def by_family(study: Study) -> Table:
    """A row for each LM and family, held-out targets apart, with each method's median KL."""
    labels = study.labels
    rows = []
    for lm, mine in study.by_lm().items():
        every = {s.label: grouped(marked(s.rows + s.held_out), itemgetter("family")) for s in mine}
        for family in dict.fromkeys(chain.from_iterable(every.values())):
            found = {label: families.get(family, []) for label, families in every.items()}
            h = {identity(row): row["entropy"] for each in found.values() for row in each}.values()
            cells = [quantile("kl")(found.get(label, [])) for label in labels]
            rows.append([lm, family, str(len(h)), f"{min(h):.2f} to {max(h):.2f}", *cells])
    return Table(["LM", "family", "targets", "entropy", *labels], rows, ["LM", "family"])


def bounds(study: Study) -> Table | None:
    """The targets whose KLs a server does not tell, with bounds below; None where there are none."""
    rows = [
        [str(row["lm"]), run.method, row["target_id"], f"at least {nats(row['kl_at_least'])}", row["prompt_text"]]
        for run in study.runs
        for row in run.bounds
    ]
    head = ["LM", "method", "target", "KL", "prompt"]
    return Table(head, rows, head) if rows else None


def _mean(rows: Sequence[Row], name: str, digits: int = 3) -> str:
    values = column(rows, name)
    values = values[~np.isnan(values)]
    return number(float(values.mean()) if len(values) else None, digits)


_TASK = itemgetter("run", "task")


class Example(NamedTuple):
    """A prompt, good or bad, and token records: none where ``predict`` has not run."""

    row: Row
    kls: dict[str, str]  # by name, as they are shown
    wanted: list[Row]  # the target's top tokens
    missing: list[Row]  # those that carry the KL most
    surplus: list[Row]  # those that got more than the target gives them


class Examples(NamedTuple):
    """The best and the worst prompts of a method on an LM, and whether these have texts and token records.

    Of few targets all prompts are among the best, and none among the worst.
    """

    lm: str
    method: str
    best: list[Example]
    worst: list[Example]
    has_text: bool
    has_tokens: bool


def examples(study: Study) -> list[Examples]:
    """The best and the worst prompts of each method on each LM, by KL; by the KL of the text where there is one."""
    tokens = {id(row): run.tokens.get(row["target_id"], []) for run in study.runs for row in run.rows}
    found = []
    for series in study.main:
        order = sorted(series.rows, key=lambda row: row["kl"] if row["kl_text"] is None else row["kl_text"])
        best, worst = (len(order), 0) if len(order) <= MOST_NAMED else (_SHOWN_PROMPTS, _SHOWN_PROMPTS)
        held_out = grouped(series.held_out, _TASK)
        shown = [
            _example(row, tokens[id(row)], held_out.get(_TASK(row), []))
            for row in (*order[:best], *order[::-1][:worst])
        ]
        has_text = any(e.row["prompt_text"] or e.row["component_texts"] for e in shown)
        has_tokens = any(e.wanted for e in shown)
        found.append(Examples(series.lm, series.label, shown[:best], shown[best:], has_text, has_tokens))
    return found


def _example(row: Row, tokens: list[Row], held_out: list[Row]) -> Example:
    def gained(token: Row) -> float:
        return float(token["reached_probability"] - token["target_probability"])

    names = {"KL": "kl", "as text": "kl_text", "floor": "kl_floor", "token floor": "kl_floor_tokens"}
    if (objective := searched_objective([row])) is not None:
        names[objective] = "objective_value"
    kls = {name: nats(row[column], 4) for name, column in names.items() if row[column] is not None}
    if held_out:
        kls["on held-out targets of its task"] = nats(sum(other["weight"] * other["kl"] for other in held_out), 4)
    wanted = sorted(tokens, key=lambda token: -token["target_probability"])
    missing = sorted((token for token in tokens if gained(token) < 0), key=lambda token: -token["token_kl"])
    surplus = sorted((token for token in tokens if gained(token) > 0), key=lambda token: -gained(token))
    return Example(row, kls, *(part[:_SHOWN_TOKENS] for part in (wanted, missing, surplus)))


def _where(run: Run) -> str:
    return f"{run.method} ({run.folder.parent.name}/{run.folder.name})"


def transfers(runs: Sequence[Run]) -> list[Table]:
    """For each run and each other LM that its prompts were tested on, the KLs on both, side by side."""
    found = []
    for run in runs:
        for rows in run.on_others if run.rows else []:
            table = side_by_side(run.rows + run.held_out, rows)
            found.append(replace(table, title=f"{_where(run)}: {table.title[0].lower()}{table.title[1:]}"))
    return found


def sampled(runs: Sequence[Run]) -> list[Table]:
    """For each run whose test sampled tokens in a way of their own, or drew some, what came out."""
    found = []
    for run in runs:
        table = sampling_table(run.rows + run.held_out) if run.rows else None
        if table is not None:
            found.append(replace(table, title=f"{_where(run)}: {table.title}"))
    return found


def tasks(runs: Sequence[Run]) -> list[tuple[str, list[Table]]]:
    """Of each run with tasks of several targets what it is called, its tasks, and what their targets add to the KL."""
    found = []
    for run in runs:
        if has_tasks(rows := run.rows + run.held_out):
            where = f"{run.method} on {run.any_row['lm']} ({run.folder.parent.name}/{run.folder.name})"
            found.append((where, [tasks_table(rows).first(), shares_table(rows).first()]))
    return found


def runs_table(runs: Sequence[Run]) -> Table:
    """What was read."""
    rows = []
    for run in runs:
        families = Counter(row["family"] for row in run.rows)
        counts = ", ".join(f"{count} {family}" for family, count in families.items())
        if run.bounds:
            counts = f"{counts}; {len(run.bounds)} with a bound alone".removeprefix("; ")
        if run.not_finite:
            counts += f"; left out: {run.not_finite} whose KL is not finite"
        settings = _settings(run.settings)
        if front := run.any_row["in_front"]:
            settings = f"{settings}, in front {front!r}".removeprefix(", ")
        rows.append([str(run.results), str(run.any_row["lm"]), run.method, counts, settings])
    head = ["results", "LM", "method", "targets", "settings"]
    return Table(head, rows, head)


def _settings(settings: dict[str, Any]) -> str:
    names = ("length", "steps", "patience", "restarts", "seed")
    return ", ".join(f"{name} {settings[name]}" for name in names if settings.get(name) is not None)
