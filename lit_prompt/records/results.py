"""``results.parquet``: one row per target, every number recomputed from the saved prompts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lit_prompt.records.prompts import paired_prompts
from lit_prompt.records.table_format import COUNT, NUMBER, TEXT, TableFormat

Columns = dict[str, list[Any]]

#: Tokens of the prompts whose floors ``token_floor_curve`` holds.
CURVE_LENGTHS = (1, 2, 5, 10, 20, 50, 100)

#: Columns of ``results.parquet``; divergences and entropies in nats. A column is null where it does not apply.
#: ``in_front`` stands before ``context_before``; ``unprompted_text`` is what the LM is given for ``kl_unprompted``.
#: ``kl_floor_tokens`` is the token floor of hard prompts of exactly ``prompt_length`` tokens, or of mixtures of so many
#: of them as were searched for at most, for random targets; all those of a run hold together but with a probability of
#: one in a million. ``excess_tokens`` is the KL less the larger of both floors, ``token_floor_curve`` the token floors
#: of prompts of at most :data:`CURVE_LENGTHS` tokens. Of a mixture of prompts
#: ``kl_single`` is the KL of its best prompt alone, ``weights`` and ``component_texts`` are of the prompts that have a
#: weight, the largest first, and ``weights_gap`` bounds how far the weights are from the best ones of all its prompts;
#: ``kl_floor`` is of single prompts, so that it has no ``excess``.
SCHEMA = pa.schema(
    [
        ("target_id", TEXT), ("family", TEXT), ("partner_of", TEXT), ("target_fingerprint", TEXT), ("entropy", NUMBER),
        ("task", TEXT), ("weight", NUMBER), ("split", TEXT),
        ("kl", NUMBER), ("kl_at_least", NUMBER), ("answer_change", NUMBER),
        ("kl_floor", NUMBER), ("excess", NUMBER), ("excess_norm", NUMBER), ("excess_prompt", NUMBER),
        ("kl_single", NUMBER), ("components", COUNT), ("weights", pa.list_(NUMBER)), ("weights_gap", NUMBER),
        ("kl_floor_tokens", NUMBER), ("excess_tokens", NUMBER), ("token_floor_curve", pa.list_(NUMBER)),
        ("kl_uniform", NUMBER), ("kl_unprompted", NUMBER), ("kl_best_random", NUMBER), ("kl_best_natural", NUMBER),
        ("draws_to_tell", NUMBER), ("sampling", TEXT), ("sampled_kl", NUMBER), ("sampled_draws_to_tell", NUMBER),
        ("draws", COUNT), ("draws_p_value", NUMBER), ("kl_asking", NUMBER), ("asking_text", TEXT),
        ("prompt_entropy", NUMBER), ("reverse_kl", NUMBER), ("js", NUMBER), ("tv", NUMBER), ("top10_overlap", NUMBER),
        ("method", TEXT), ("objective", TEXT), ("objective_value", NUMBER),
        ("prompt_length", COUNT), ("prompt_norm", NUMBER), ("in_front", TEXT), ("context_before", TEXT),
        ("context_after", TEXT), ("unprompted_text", TEXT), ("prompt_text", TEXT), ("whole_text", TEXT),
        ("kl_text", NUMBER), ("component_texts", pa.list_(TEXT)),
        ("kl_soft", NUMBER), ("kl_projected", NUMBER), ("restarts", COUNT), ("kl_worst_restart", NUMBER),
        ("kl_restart_std", NUMBER), ("steps", COUNT), ("forward_passes", COUNT), ("seconds", NUMBER),
        ("stop_reason", TEXT), ("seed", COUNT), ("lm", TEXT), ("lm_fingerprint", TEXT),
    ]
)  # fmt: skip
RESULTS = TableFormat(
    SCHEMA,
    needed=("partner_of", "kl"),
    filled=("target_id", "family", "entropy", "kl_uniform", "method", "prompt_length", "lm"),
    advice="lit_prompt test --run RUN writes results anew",
)

_PROMPTS = "prompts"  # key in the metadata: checksum of the prompts


def with_prompts(table: pa.Table, checksum: str | None) -> pa.Table:
    """A table that names the prompts which it is of by their checksum, as files of results and predictions do."""
    return table if checksum is None else table.replace_schema_metadata({_PROMPTS: checksum})


def prompts_of(table: pa.Table) -> str | None:
    """The checksum of the prompts that a table is of; None where it names none."""
    checksum = (table.schema.metadata or {}).get(_PROMPTS.encode())
    return None if checksum is None else checksum.decode()


def read_results(path: Path, run: Path) -> pa.Table:
    """Reads results, whose prompts must be in their run's folder.

    Raises:
        InputError: if they cannot be read or are not as they were written, or the prompts are not there.
    """
    table = RESULTS.read(path)
    paired_prompts(run, path, prompts_of(table))
    return table


def method_label(name: str) -> str:
    """The name of a method, as the column ``method`` holds it, as it is shown: all but two find hard prompts."""
    return name if name in ("soft", "lift") else f"hard ({name})"


def objective_label(name: str) -> str:
    """The name of an objective, as the column ``objective`` holds it, as it is shown."""
    return name.replace("reverse_", "reverse ").replace("kl", "KL").replace("js", "JS")


def result_table(parts: Iterable[Columns]) -> pa.Table:
    """Joins batches of columns into a table with :data:`SCHEMA`; a column that is missing is null."""

    def table(columns: Columns) -> pa.Table:
        nothing = [None] * len(columns["target_id"])
        return pa.table({name: columns.get(name, nothing) for name in SCHEMA.names}, SCHEMA)

    return pa.concat_tables([SCHEMA.empty_table(), *map(table, parts)]).combine_chunks()
