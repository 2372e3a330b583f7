"""The Arrow form of targets: one row per target, sparse where the target is sparse."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.answers import Answers
from lit_prompt.data.target import Target, fill_log_probs
from lit_prompt.functional import one_thread
from lit_prompt.records.checksum import CHECKSUM

# What is held at a time while a set is written: 4 MiB of log-probabilities, or this many sparse rows.
_ELEMENTS_PER_BLOCK = 2**20
_ROWS_PER_BLOCK = 2**12


# of columns that have come since, where it is not null
_DEFAULTS = {"weight": 1.0, "held_out": False}


def target_features() -> Any:
    """Columns of a set of targets, as ``datasets`` describes them.

    They are named for the attributes of a :class:`Target`; the last one is the checksum of the row.
    """
    import datasets

    text = datasets.Value("string")
    return datasets.Features(
        {
            "target_id": text,
            "family": text,
            "token_ids": datasets.Sequence(datasets.Value("int32")),  # null where log_probs is over all tokens
            "log_probs": datasets.Sequence(datasets.Value("float32")),
            "rest_log_prob": datasets.Value("float64"),
            "entropy": datasets.Value("float64"),
            "seed": datasets.Value("int64"),
            "partner_of": text,
            "before": text,
            "after": text,
            "chat": text,
            "task": text,
            "weight": datasets.Value("float64"),
            "held_out": datasets.Value("bool"),
            "answers": text,
            "exchangeable": text,
            "metadata": text,
            CHECKSUM: text,
        }
    )


def target_blocks(targets: Iterable[Target]) -> Iterator[list[Target]]:
    """Batches targets by memory: a few dense ones, or thousands of sparse ones."""
    block: list[Target] = []
    elements = 0
    for target in targets:
        block.append(target)
        elements += len(target.log_probs)
        if elements >= _ELEMENTS_PER_BLOCK or len(block) == _ROWS_PER_BLOCK:
            yield block
            block, elements = [], 0
    if block:
        yield block


def target_table(block: list[Target]) -> pa.Table:
    """The rows of some targets, with the columns of :func:`target_features`."""
    schema = target_features().arrow_schema
    schema = schema.remove(schema.get_field_index(CHECKSUM))
    converted = {
        "token_ids": [None if t.token_ids is None else t.token_ids.to(torch.int32).numpy() for t in block],
        "log_probs": [target.log_probs.numpy() for target in block],
        "answers": [None if target.answers is None else target.answers.to_json() for target in block],
        "metadata": [json.dumps(target.metadata) for target in block],
    }
    as_they_are = set(schema.names) - set(converted)
    columns = converted | {name: [getattr(target, name) for target in block] for name in as_they_are}
    return completed(pa.Table.from_pydict(columns, schema))


def completed(rows: pa.Table) -> pa.Table:
    """Rows with all columns, the checksums' among them, which those of a former version lack."""
    schema = target_features().arrow_schema
    if rows.column_names == schema.names:
        return rows
    if CHECKSUM in rows.column_names:
        rows = rows.drop_columns([CHECKSUM])
    rows = with_defaults(rows, [name for name in schema.names if name != CHECKSUM])
    return rows.append_column(CHECKSUM, pa.array(_checksums(rows), pa.string())).cast(schema)


def with_defaults(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Some columns of rows; those that a former version did not have hold what it meant."""
    schema = target_features().arrow_schema
    for name in names:
        if name not in rows.column_names:
            value = pa.scalar(_DEFAULTS.get(name), schema.field(name).type)
            rows = rows.append_column(name, pa.array([value.as_py()] * len(rows), value.type))
    return rows.select(list(names))


def first_changed(rows: pa.Table) -> int | None:
    """Position of the first row that is not what was written; None where all are, or have no checksums."""
    if CHECKSUM not in rows.column_names:
        return None
    pairs = zip(rows.column(CHECKSUM).to_pylist(), _checksums(rows.drop_columns([CHECKSUM])), strict=True)
    return next((i for i, (written, found) in enumerate(pairs) if written != found), None)


def _checksums(rows: pa.Table) -> list[str]:
    plain = rows.drop_columns(["token_ids", "log_probs"]).to_pylist()
    numbers = zip(rows.column("token_ids"), rows.column("log_probs"), strict=True)
    found = []
    for facts, lists in zip(plain, numbers, strict=True):
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for values in lists:
            array = values.values.to_numpy() if values.is_valid else np.empty(0)
            digest.update(f"{values.is_valid} {array.dtype} {len(array)}".encode())
            digest.update(array.data)
        found.append(digest.hexdigest()[:32])
    return found


def stored_targets(rows: pa.Table) -> Iterator[Target]:
    """The targets of rows with the columns of :func:`target_features`, as they were when they were stored."""
    plain = rows.select(sorted({*rows.column_names} - {"token_ids", "log_probs", CHECKSUM})).to_pylist()
    for row, token_ids, log_probs in zip(plain, rows.column("token_ids"), rows.column("log_probs"), strict=True):
        ids = torch.tensor(token_ids.values.to_numpy()).long() if token_ids.is_valid else None
        answers = row.get("answers")
        row |= {"metadata": json.loads(row["metadata"]), "token_ids": ids}
        row |= {"answers": None if answers is None else Answers.from_json(answers)}
        yield Target(log_probs=torch.tensor(log_probs.values.to_numpy()), **row)


@one_thread()
def dense_log_probs(rows: pa.Table, vocab_size: int) -> Tensor:
    """Log-probabilities ``[item, vocab]``, float32, of the rows of a set."""
    result = torch.empty(len(rows), vocab_size)
    columns = (rows.column(name) for name in ("token_ids", "log_probs", "rest_log_prob"))
    for row, (token_ids, log_probs, rest) in zip(result, zip(*columns, strict=True), strict=True):
        ids = torch.tensor(token_ids.values.to_numpy()) if token_ids.is_valid else None
        fill_log_probs(row, torch.tensor(log_probs.values.to_numpy()), ids, rest.as_py())
    return result
