"""The Arrow form of targets: one row per target, sparse where the target is sparse."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Target, fill_log_probs
from lit_prompt.functional import one_thread

# What is held at a time while a set is written: 4 MiB of log-probabilities, or this many sparse rows.
_ELEMENTS_PER_BLOCK = 2**20
_ROWS_PER_BLOCK = 2**12


def target_features() -> Any:
    """Columns of a set of targets, named for the attributes of a :class:`Target`, as ``datasets`` describes them."""
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
            "metadata": text,
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
    converted = {
        "token_ids": [None if t.token_ids is None else t.token_ids.to(torch.int32).numpy() for t in block],
        "log_probs": [target.log_probs.numpy() for target in block],
        "metadata": [json.dumps(target.metadata) for target in block],
    }
    as_they_are = set(schema.names) - set(converted)
    columns = converted | {name: [getattr(target, name) for target in block] for name in as_they_are}
    return pa.Table.from_pydict(columns, schema)


def stored_targets(rows: pa.Table) -> Iterator[Target]:
    """The targets of rows with the columns of :func:`target_features`, as they were when they were stored."""
    plain = rows.drop_columns(["token_ids", "log_probs"]).to_pylist()
    for row, token_ids, log_probs in zip(plain, rows.column("token_ids"), rows.column("log_probs"), strict=True):
        ids = torch.tensor(token_ids.values.to_numpy()).long() if token_ids.is_valid else None
        row |= {"metadata": json.loads(row["metadata"]), "token_ids": ids}
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
