"""Results, hard prompts and floors on the screen."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lit_prompt.records.tasks import has_tasks, task_rows, told_rows
from lit_prompt.results.comparisons import Comparison
from lit_prompt.results.console import console, print_table, say
from lit_prompt.results.mixtures_shown import MIXTURE_TOLD, below_floor_of_one, mixture_lines
from lit_prompt.results.rows import MOST_NAMED, Row, column, has_mixtures, searched_objective
from lit_prompt.results.sampling_shown import DRAWS_TOLD, drawn_table, sampled_table, tested_table
from lit_prompt.results.table import Table, Told, count, entropy_table, quantile, target_table
from lit_prompt.results.task_tables import marked, shares_table, tasks_table
from lit_prompt.results.text import as_json, nats, number
from lit_prompt.results.token_floors_shown import below_token_floor, token_floor_told

_MOST_PROMPTS = 16
_MOST_SHARES = 60


def print_results(table: pa.Table, is_served: bool = False) -> None:
    """Prints the KLs of result records: of few targets by name, of many by family and entropy.

    Another objective's value stands beside them. There are no floors of an LM that is only served.
    """
    rows = table.to_pylist()
    found = [row for row in rows if row["kl"] is not None]
    few = len(found) <= MOST_NAMED
    columns = {"KL": quantile("kl")} if few else _spread("median", "kl")
    caption = ""
    if (objective := searched_objective(found)) is not None:
        columns["objective"] = quantile("objective_value")
        caption = f"objective: {objective}, which was minimised{'' if few else ' (median)'}; "
    if mixed := has_mixtures(found):
        columns |= {"of one": quantile("kl_single"), "prompts": count("components")}
        caption += f"{MIXTURE_TOLD}; "
    if not is_served:
        columns["floor"] = quantile("kl_floor")
        caption += f"floor: certified, no {'single ' * mixed}prompt of this LM is below it; "
    if has_token_floors := any(row["kl_floor_tokens"] is not None for row in found):
        columns["token floor"] = quantile("kl_floor_tokens")
    columns["uniform"] = quantile("kl_uniform")
    columns["no prompt"] = quantile("kl_unprompted")
    uniform = "the uniform distribution" + " over the answers" * is_served
    caption += f"uniform, no prompt: the same KL for {uniform}, for the LM unprompted"
    if not is_served and any(row["kl_floor"] is None for row in found):
        caption += "; -: no floor is known, as over cells of answers (not convex)"
    if has_token_floors:
        caption += f"; {token_floor_told(found)}"
    if any(row["kl_asking"] is not None for row in found):
        columns["asking"] = quantile("kl_asking")
        caption += "; asking: for a prompt that asks for it in words"
    columns["TV"] = quantile("tv")
    caption += "; TV: total variation"
    if any(row["draws_to_tell"] is not None for row in found):
        columns["draws"] = count("draws_to_tell")
        caption += f"; draws: {DRAWS_TOLD}"
    shown = target_table if few else entropy_table
    title = "KL(target || LM) in nats, recomputed from the saved prompts"
    if found or not any(row["kl_at_least"] is not None for row in rows):
        print_table(shown(marked(found), columns, title, caption))
    if has_tasks(told := told_rows(rows)):
        print_table(tasks_table(told).first())
        print_table(shares_table(told), _MOST_SHARES)
    for front in dict.fromkeys(row["in_front"] for row in rows if row["in_front"] is not None):
        say(f"In front of every text stands {front!r}." if front else "Nothing stands in front of a text.")
    alone = (row for row in rows if not (row["in_front"] or row["context_before"] or row["context_after"]))
    for stand_in in dict.fromkeys(row["unprompted_text"] for row in alone if row["unprompted_text"]):
        say(f"Where there is no text at all, the LM unprompted is the LM after {stand_in!r}.")
    for sentence in (below_token_floor(found), below_floor_of_one(told)):
        if sentence is not None:
            say(sentence)
    without = [row for row in rows if row["kl"] is None and row["kl_at_least"] is None]
    ended = sum(row["stop_reason"] not in (None, "not_searched", "running") for row in without)
    if ended:
        say(f"{ended} of {len(rows)} targets have no prompt, as no search gave a finite number.")


def print_served(table: pa.Table) -> None:
    """Prints what is known of targets whose KLs a server does not tell, and how far its answers have changed."""
    rows = table.to_pylist()
    if bounds := [row for row in rows if row["kl_at_least"] is not None]:
        say("", f"Of {len(bounds)} of {len(rows)} targets no KL is known, as the server does not list all answers:")
        for row in bounds[:_MOST_PROMPTS]:
            say(f"{row['target_id']}: KL at least {nats(row['kl_at_least'])}", as_json(row["prompt_text"]))
    if changes := [row["answer_change"] for row in rows if row["answer_change"] is not None]:
        say("", f"Asked again, the server's log-probabilities differ from the search's by {max(changes):.2g} at most.")


def print_sampled(table: pa.Table, records: Mapping[str, Sequence[Row]]) -> None:
    """Prints what is told of the LM as its tokens are sampled, and what was drawn from it, as far as it was asked for.

    ``records`` are token records of few targets, by a title; no outcomes are shown of many.
    """
    rows = [row for row in table.to_pylist() if row["kl"] is not None]
    if any(row["sampled_kl"] is not None for row in rows):
        print_table(sampled_table(rows), MOST_NAMED)
    if any(row["draws"] is not None for row in rows):
        for each in records.values():
            print_table(drawn_table(each))
        print_table(tested_table(rows), MOST_NAMED)


def print_unfinished(table: pa.Table, run: Path | None) -> None:
    """Says of result records whose search has not ended, how many those are, and how a run goes on."""
    reasons = table["stop_reason"].to_pylist()
    running, waiting = (reasons.count(reason) for reason in ("running", "not_searched"))
    if running or waiting:
        folder = "FOLDER" if run is None else shlex.quote(str(run))
        say(
            f"This search has not ended: of {len(reasons)} targets {running} are under way and {waiting} not begun. "
            f"Resume it with: lit_prompt fit --run {folder}"
        )


def print_prompts(table: pa.Table) -> None:
    """Prints the prompts of result records that have a text, the best of them first; nothing where there are none.

    A prompt is one line, however long, so that a copy of it has no breaks.
    """
    rows = [row for row in told_rows(table.to_pylist()) if row["prompt_text"] is not None or row.get("component_texts")]
    if not rows:
        return
    rows = [row | {"target_id": row["task"]} for row in task_rows(rows)] if has_tasks(rows) else rows
    rows.sort(key=lambda row: row["kl"])
    kept = sum(row["kl_text"] is not None and abs(row["kl"] - row["kl_text"]) <= 1e-5 for row in rows)
    if rows[0].get("component_texts"):
        say("Of each target the prompt to draw with is drawn first, by its weight.")
    say("Prompts as JSON strings, the lowest KL first (as text: the KL when the text is pasted;")
    say(f"the same for {kept} of {len(rows)} {'mixtures' if rows[0]['component_texts'] else 'prompts'})", "")
    for row in rows[:_MOST_PROMPTS]:
        held_out = "" if row.get("held_out_kl") is None else f", held out {nats(row['held_out_kl'])}"
        say(f"{row['target_id']}: KL {nats(row['kl'])}, as text {nats(row['kl_text'])}{held_out}")
        say(*(mixture_lines(row) if row.get("component_texts") else [as_json(row["prompt_text"])]), "")
    if len(rows) > _MOST_PROMPTS:
        say(f"... and {len(rows) - _MOST_PROMPTS} more in the file.")
    if gaps := [row for row in rows if row.get("kl_soft") is not None]:
        soft, projected, found = (float(np.median(column(gaps, name))) for name in ("kl_soft", "kl_projected", "kl"))
        console.print(
            f"median KL: soft prompts {nats(soft)}, the tokens nearest to them {nats(projected)} (projection gap "
            f"{number(projected - soft)}), searched from there {nats(found)}"
        )


def print_floors(table: pa.Table) -> None:
    """Prints floors and sphere values of rows of ``floors.parquet``, as :func:`print_results` does KLs."""
    rows = table.to_pylist()
    few = len(rows) <= MOST_NAMED
    columns = {"floor": quantile("kl_floor")} if few else _spread("floor", "kl_floor")
    columns["sphere"] = quantile("kl_sphere")
    columns["widest gap"] = lambda group: f"{(column(group, 'kl_ball') - column(group, 'kl_floor')).max():.1e}"
    caption = (
        f"floor: certified, no prompt is below it, soft or hard, of any length{'' if few else ' (median, 10 and 90 %)'}"
        f"; sphere: what a soft prompt reaches{'' if few else ' (median)'}; widest gap: how far a floor can be below "
        "the best one at most"
    )
    shown = target_table if few else entropy_table
    print_table(shown(rows, columns, "Least KL(target || LM) that any prompt can reach, in nats", caption))


def _spread(heading: str, name: str) -> dict[str, Told]:
    """A column's median under a heading, and its 10 and 90 % quantiles."""
    return {heading: quantile(name), "10 %": quantile(name, 0.1), "90 %": quantile(name, 0.9)}


def print_comparisons(found: Sequence[Comparison]) -> None:
    """Prints mean KLs against one another, with their ratio's confidence interval; nothing where there are none."""
    if not found:
        return
    rows = [
        [
            row.name,
            f"{row.count}, {row.other_count}" if row.won is None else str(row.count),
            nats(row.kl, 4),
            nats(row.other_kl, 4),
            f"{row.ratio:.2g}",
            f"{row.low:.2g} to {row.high:.2g}",
            "" if row.won is None else f"{row.won} of {row.count}",
        ]
        for row in found
    ]
    caption = "the interval is the ratio's, by bootstrap over targets (9999 resamples) or over pairs of targets"
    if any(row.won is None for row in found):
        caption += "; low, moderate, high: the lowest sixth, middle third and highest sixth of 0 to ln|V|"
    head = ["a / b", "n", "KL a", "KL b", "ratio", "95 % interval", "a lower"]
    print_table(Table(head, rows, ["a / b"], "Mean KL, compared", caption))
