"""What is drawn from the LM, on the screen."""

from collections.abc import Sequence
from statistics import median

from lit_prompt.results.rows import MOST_NAMED, Row
from lit_prompt.results.table import Table, count, entropy_table, quantile, target_table
from lit_prompt.results.task_tables import marked
from lit_prompt.results.text import nats, number

#: What a number of draws says of an LM.
DRAWS_TOLD = "so many tell the LM from the target (5 % level, 80 % power)"
_P_TOLD = "p: of draws that are as unlike the target, if they came from it (likelihood-ratio test); 0: impossible"


def sampling_table(rows: Sequence[Row]) -> Table | None:
    """What holds for the LM as its tokens are sampled, and what was drawn from it; None where neither was asked for.

    A row a target where they are few, else one for each family and entropy, of medians.
    """
    shown = target_table if len(rows) <= MOST_NAMED else entropy_table
    columns, captions, title = {"KL": quantile("kl")}, ["KL: of the LM's own probabilities"], "drawn from the LM itself"
    if (way := rows[0]["sampling"]) is not None:
        columns |= {"sampled KL": quantile("sampled_kl"), "to tell": count("sampled_draws_to_tell")}
        captions += [f"sampled KL: as tokens are sampled, {way}; -: infinite", f"to tell: {DRAWS_TOLD}"]
        title = f"as tokens are sampled: {way}"
    if any(row["draws"] is not None for row in rows):
        columns |= {"draws": count("draws"), "p": _median_p_value}
        captions.append(_P_TOLD)
    return shown(marked(rows), columns, title, "; ".join(captions)) if len(columns) > 1 else None


def sampled_table(rows: Sequence[Row]) -> Table:
    """A row for each target: what holds for the LM as its tokens are sampled."""
    body = [
        [row["target_id"], nats(row["kl"]), nats(row["sampled_kl"]), count("sampled_draws_to_tell")([row])]
        for row in rows
    ]
    title = f"As tokens are sampled: {rows[0]['sampling']}"
    return Table(["target", "KL", "sampled KL", "draws"], body, ["target"], title, "KL: of the LM's own probabilities")


def tested_table(rows: Sequence[Row]) -> Table:
    """A row for each target: whether what was drawn from the LM can come from it."""
    body = [[row["target_id"], str(row["draws"]), _p_value(row["draws_p_value"])] for row in rows]
    return Table(["target", "draws", "p"], body, ["target"], "Drawn from the LM itself", _P_TOLD)


def _median_p_value(rows: Sequence[Row]) -> str:
    known = [row["draws_p_value"] for row in rows if row["draws_p_value"] is not None]
    return _p_value(median(known)) if known else "-"


def _p_value(value: float) -> str:
    return "0" if value == 0.0 else number(value, 4)


def drawn_table(records: Sequence[Row]) -> Table:
    """A row for each outcome of a target: how often it was drawn, beside how often it was to be expected."""
    draws = records[0]["draws"]
    body = [
        [repr(record["token"]), number(draws * record["target_probability"], 1), str(record["drawn"])]
        for record in records
    ]
    return Table(["token", "expected", "drawn"], body, ["token"], f"{records[0]['target_id']}: {draws} draws")
