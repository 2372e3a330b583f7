"""``results.parquet``: a row a target, every number recomputed from the saved prompts."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from lit_prompt.records.table_format import TableFormat

Columns = dict[str, list[Any]]

#: Columns of ``results.parquet``; divergences and entropies in nats. A column is null where it does not apply.
SCHEMA = pa.schema(
    [
        ("target_id", pa.string()),
        ("family", pa.string()),
        ("partner_of", pa.string()),
        ("target_fingerprint", pa.string()),
        ("entropy", pa.float64()),
        ("kl", pa.float64()),
        ("kl_floor", pa.float64()),
        ("excess", pa.float64()),
        ("excess_norm", pa.float64()),
        ("excess_prompt", pa.float64()),
        ("kl_uniform", pa.float64()),
        ("kl_unprompted", pa.float64()),
        ("kl_best_random", pa.float64()),
        ("kl_best_natural", pa.float64()),
        ("prompt_entropy", pa.float64()),
        ("reverse_kl", pa.float64()),
        ("js", pa.float64()),
        ("tv", pa.float64()),
        ("top10_overlap", pa.float64()),
        ("method", pa.string()),
        ("prompt_length", pa.int64()),
        ("prompt_norm", pa.float64()),
        ("context_before", pa.string()),
        ("context_after", pa.string()),
        ("prompt_text", pa.string()),
        ("kl_text", pa.float64()),
        ("kl_soft", pa.float64()),
        ("kl_projected", pa.float64()),
        ("restarts", pa.int64()),
        ("kl_worst_restart", pa.float64()),
        ("kl_restart_std", pa.float64()),
        ("steps", pa.int64()),
        ("forward_passes", pa.int64()),
        ("seconds", pa.float64()),
        ("stop_reason", pa.string()),
        ("seed", pa.int64()),
        ("lm", pa.string()),
        ("lm_fingerprint", pa.string()),
    ]
)

RESULTS = TableFormat(
    SCHEMA,
    needed=("partner_of", "kl"),
    filled=("target_id", "family", "entropy", "kl_uniform", "method", "prompt_length", "lm"),
)


def result_table(parts: Iterable[Columns]) -> pa.Table:
    """Joins batches of columns into a table with :data:`SCHEMA`; a column that is missing is null."""
    tables = [SCHEMA.empty_table()]
    for columns in parts:
        count = len(columns["target_id"])
        arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in SCHEMA]
        tables.append(pa.Table.from_arrays(arrays, schema=SCHEMA))
    return pa.concat_tables(tables)
