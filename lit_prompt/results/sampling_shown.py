"""What is drawn from the LM, on the screen."""

from collections.abc import Sequence

from lit_prompt.results.rows import Row
from lit_prompt.results.table import Table, count
from lit_prompt.results.text import nats, number


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
    caption = "p: of draws that are as unlike the target, if they came from it (likelihood-ratio test); 0: impossible"
    return Table(["target", "draws", "p"], body, ["target"], "Drawn from the LM itself", caption)


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
