"""Target and reached probabilities of tokens, and which of them carry the KL, as text."""

from collections.abc import Sequence
from operator import itemgetter

from lit_prompt.results.console import print_table, say
from lit_prompt.results.markdown import code_span
from lit_prompt.results.mixtures_shown import mixture_lines
from lit_prompt.results.rows import Row, grouped
from lit_prompt.results.table import Table
from lit_prompt.results.text import as_json, nats

_SHOWN_TARGETS = 12
_SHOWN_ERRORS = 5


def print_top_tokens(records: Sequence[Row]) -> None:
    """Prints token records (see ``Evaluation.token_records``): prompt and top tokens of the first few targets."""
    by_target = grouped(records, itemgetter("target_id"))
    for target_id, tokens in list(by_target.items())[:_SHOWN_TARGETS]:
        floor = tokens[0].get("kl_floor_tokens")
        known = "" if floor is None else f", token floor {nats(floor, 4)}"
        say(f"{target_id}: KL {nats(tokens[0]['kl'], 4)} nats{known}")
        if tokens[0]["prompt_text"] is not None:
            say(f"prompt, as JSON: {as_json(tokens[0]['prompt_text'])}")
            if (whole := tokens[0].get("whole_text")) not in (None, tokens[0]["prompt_text"]):
                say(f"with what stands around it: {as_json(whole)}")
        if tokens[0].get("weights"):
            say(*mixture_lines(tokens[0]))
        numbers = {"target": "target_probability", "reached": "reached_probability", "KL": "token_kl"}
        if tokens[0]["sampled_probability"] is not None:
            numbers["sampled"] = "sampled_probability"
        rows = [[repr(token["token"]), *(nats(token[name], 4) for name in numbers.values())] for token in tokens]
        head = ["token", *numbers]
        if any(token["answer"] is not None for token in tokens):
            head = ["answer", *head]
            answers = ("" if token["answer"] is None else repr(token["answer"]) for token in tokens)
            rows = [[answer, *row] for answer, row in zip(answers, rows, strict=True)]
        print_table(Table(head, rows, ["answer", "token"]))
        say(*error_lines(tokens), "")
    if len(by_target) > _SHOWN_TARGETS:
        say(f"... and {len(by_target) - _SHOWN_TARGETS} more targets in the file.")


def error_lines(records: Sequence[Row]) -> list[str]:
    """Missing and excess mass of one target, such as ``missing 0.121:  ' fox' 0.200 to 0.079 (0.186 nats)``."""
    return [f"{side}:  {',  '.join(tokens)}" for side, tokens in _sides(records)]


def error_markdown(records: Sequence[Row], title: str) -> str:
    """The same as Markdown for TensorBoard, a line a token."""
    lines = [f"**{code_span(title)}**", ""]
    for side, tokens in _sides(records):
        # indented: a token may hold what Markdown would take for its own
        lines += [f"    {side}", *(f"        {token}" for token in tokens)]
    return "\n".join(lines)


def _sides(records: Sequence[Row]) -> list[tuple[str, list[str]]]:
    sides = []
    for name, sign in (("missing", 1.0), ("excess", -1.0)):
        wrong = [(sign * (r["target_probability"] - r["reached_probability"]), r) for r in records]
        wrong = sorted((pair for pair in wrong if pair[0] > 1e-6), key=lambda pair: -pair[0])[:_SHOWN_ERRORS]
        if wrong:
            tokens = [
                f"{named(r)} {r['target_probability']:.3g} to {r['reached_probability']:.3g} "
                f"({max(r['token_kl'], 0.0):.2g} nats)"
                for _, r in wrong
            ]
            sides.append((f"{name} {records[0]['wrong_mass']:.3f}", tokens))
    return sides


def named(record: Row) -> str:
    """What a token record is about, in quotes: the answer that its token stands for, else the token."""
    return repr(record.get("answer") or record["token"])
