"""``predictions.parquet``: a row a token of a target; see ``PromptModule.token_records``."""

import pyarrow as pa

from lit_prompt.records.table_format import TableFormat

_SCHEMA = pa.schema(
    [
        ("target_id", pa.string()),
        ("family", pa.string()),
        ("kl", pa.float64()),
        ("wrong_mass", pa.float64()),
        ("token_id", pa.int64()),
        ("token", pa.string()),
        ("target_probability", pa.float64()),
        ("reached_probability", pa.float64()),
        ("token_kl", pa.float64()),
    ]
)
PREDICTIONS = TableFormat(
    _SCHEMA, needed=("target_id", "token", "target_probability", "reached_probability", "token_kl")
)
