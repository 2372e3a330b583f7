"""The Arrow form of targets: a row a target, sparse where the target is sparse."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lit_prompt.data.target import Target, fill_log_probs
from lit_prompt.functional import one_thread

# What is held at a time while a set is written: 4 MiB of log-probabilities, or this many sparse rows.
_ELEMENTS_PER_BLOCK = 2**20
_ROWS_PER_BLOCK = 2**12


def target_features() -> Any:
    """Columns of a set of targets, as ``datasets`` describes them."""
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
    """Collects targets until they hold some megabytes: few dense ones, thousands of sparse ones."""
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


def target_table(block: list[Target], schema: pa.Schema) -> pa.Table:
    """The rows of some targets, with the columns of ``schema``."""
    columns = {
        "target_id": [target.target_id for target in block],
        "family": [target.family for target in block],
        "token_ids": _lists([None if t.token_ids is None else t.token_ids.to(torch.int32).numpy() for t in block]),
        "log_probs": _lists([target.log_probs.numpy() for target in block]),
        "rest_log_prob": [target.rest_log_prob for target in block],
        "entropy": [target.entropy for target in block],
        "seed": [target.seed for target in block],
        "partner_of": [target.partner_of for target in block],
        "before": [target.before for target in block],
        "after": [target.after for target in block],
        "metadata": [json.dumps(target.metadata) for target in block],
    }
    return pa.Table.from_arrays(
        [pa.array(columns[field.name], field.type) for field in schema], schema=schema
    )  # from_pydict would let a column be missing


def _lists(rows: list[np.ndarray | None]) -> pa.ListArray:
    """Rows of any length as one Arrow column, without Python objects for their elements."""
    filled = [row for row in rows if row is not None]
    values = np.concatenate(filled) if filled else np.empty(0, np.int32)
    offsets = np.cumsum([0] + [0 if row is None else len(row) for row in rows], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values), mask=pa.array([row is None for row in rows]))


@one_thread()
def dense_log_probs(rows: pa.Table, vocab_size: int) -> Tensor:
    """Log-probabilities ``[item, vocab]``, float32, of the rows of a set."""
    result = torch.empty(len(rows), vocab_size)
    columns = (rows.column(name) for name in ("token_ids", "log_probs", "rest_log_prob"))
    for row, (token_ids, log_probs, rest) in zip(result, zip(*columns, strict=True), strict=True):
        ids = torch.tensor(token_ids.values.to_numpy()) if token_ids.is_valid else None
        fill_log_probs(row, torch.tensor(log_probs.values.to_numpy()), ids, rest.as_py())
    return result
