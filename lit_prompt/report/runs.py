"""Reads the results of runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from lit_prompt.errors import InputError
from lit_prompt.results.record import SCHEMA, TOKEN_SCHEMA, newest

Row = dict[str, Any]

#: columns that no row may lack, and those that may be null
_FILLED = ("target_id", "family", "entropy", "kl_uniform", "method", "prompt_length", "lm")
_NEEDED = (*_FILLED, "partner_of", "kl")
#: what the page shows of token records
_TOKENS = ("target_id", "token", "target_probability", "reached_probability", "token_kl")


@dataclass(frozen=True)
class Run:
    """What ``test`` and ``predict`` left in a run's folder.

    Attributes:
        folder: the run's.
        results: the file that was read.
        rows: result records of the targets that were searched; columns that the file lacks are None. A column ``run``
            tells those of one run from another's with the same ids.
        not_finite: targets that are left out, as their KL is infinite or not a number.
        settings: ``model.init_args`` of the run, without the LM; empty where the folder has no config.
        tokens: token records of ``predict`` by target id; empty where there is no predictions.parquet.
    """

    folder: Path
    results: Path
    rows: list[Row]
    not_finite: int
    settings: dict[str, Any]
    tokens: dict[str, list[Row]]

    @property
    def method(self) -> str:
        """Name of the search method."""
        return str(self.rows[0]["method"])


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads runs, each once.

    Args:
        paths: folders of runs, or results files in them.

    Raises:
        InputError: if one has no results, or they cannot be read.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        results = path if path.suffix == ".parquet" else newest(path, "results.parquet")
        if results is None or not results.is_file():
            raise InputError(_missing(path))
        runs.setdefault(results.resolve(), _read(results))
    rows = [row for run in runs.values() for row in run.rows]
    if any(row["target_fingerprint"] is None for row in rows):
        for row in rows:  # an older version's: no target has one, so that the same ones are known to be the same
            row["target_fingerprint"] = None
    return list(runs.values())


def _missing(path: Path) -> str:
    if not path.exists():
        return f"report: no run {path}; runs are in logs/CONFIG/version_K"
    if (path / "config.yaml").is_file():
        return f"report: {path} has no results.parquet; run lit_prompt test --run {path} first"
    return f"report: {path} is no run's folder (it holds neither results.parquet nor config.yaml)"


def _read(results: Path) -> Run:
    folder = results.parent
    table = _table(results, SCHEMA, _NEEDED, _FILLED)
    absent = dict.fromkeys(name for name in SCHEMA.names if name not in table.column_names)
    searched = [absent | row | {"run": str(results)} for row in table.to_pylist() if row["kl"] is not None]
    if not searched:
        raise InputError(f"report: {results} holds no target that was searched; run lit_prompt fit --run {folder}")
    rows = [row for row in searched if math.isfinite(row["kl"])]
    if not rows:
        raise InputError(f"report: {results} holds no KL that is finite; search again with another start or precision")
    tokens: dict[str, list[Row]] = {}
    if (predictions := newest(folder, "predictions.parquet")) is not None:
        for token in _table(predictions, TOKEN_SCHEMA, _TOKENS, ()).select(_TOKENS).drop_null().to_pylist():
            tokens.setdefault(token["target_id"], []).append(token)
    return Run(folder, results, rows, len(searched) - len(rows), _settings(folder / "config.yaml"), tokens)


def _table(path: Path, schema: pa.Schema, needed: Sequence[str], filled: Sequence[str]) -> pa.Table:
    """The columns of a file that a schema knows, with its types; what is missing or of another type is refused.

    What is infinite or not a number is null, but in ``kl``.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"report: {path} cannot be read ({' '.join(str(error).split())})") from error
    if missing := [name for name in needed if name not in table.column_names]:
        raise InputError(f"report: {path} was not written by test or predict (it has no column {missing[0]})")
    columns = {}
    for field in schema:
        if field.name not in table.column_names:
            continue
        column = table[field.name]
        try:
            column = column.cast(field.type)
        except pa.ArrowException as error:
            raise InputError(f"report: {path}: column {field.name} is {column.type}, not {field.type}") from error
        if pa.types.is_floating(field.type) and field.name != "kl":  # whose rows are left out, and counted
            column = pc.if_else(pc.is_finite(column), column, None)
        if field.name in filled and column.null_count:
            raise InputError(f"report: {path}: column {field.name} is empty or not finite in {column.null_count} rows")
        columns[field.name] = column
    return pa.table(columns)


def _settings(config: Path) -> dict[str, Any]:
    if not config.is_file():
        return {}
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return {k: v for k, v in settings["model"]["init_args"].items() if k not in ("lm", "lm_options")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"report: {config} is not the config of a run; move it away to go on without it") from error
