"""``predictions.parquet``: one row per token of a target; see ``Evaluation.token_records``."""

import pyarrow as pa

from lit_prompt.records.table_format import COUNT, NUMBER, TEXT, TableFormat

PREDICTIONS = TableFormat(
    pa.schema([
        ("target_id", TEXT), ("family", TEXT), ("kl", NUMBER), ("kl_floor_tokens", NUMBER), ("excess_tokens", NUMBER),
        ("wrong_mass", NUMBER), ("token_id", COUNT),
        ("token", TEXT), ("answer", TEXT), ("target_probability", NUMBER), ("reached_probability", NUMBER),
        ("sampled_probability", NUMBER), ("token_kl", NUMBER), ("prompt_text", TEXT), ("whole_text", TEXT),
    ]),
    needed=("target_id", "token", "target_probability", "reached_probability", "token_kl"),
    advice="lit_prompt predict --run RUN writes predictions anew",
)  # fmt: skip
