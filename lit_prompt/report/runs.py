"""Reads the results of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lit_prompt.errors import InputError
from lit_prompt.results.record import SCHEMA, newest

Row = dict[str, Any]

_NEEDED = ("target_id", "family", "partner_of", "entropy", "kl", "kl_uniform", "method", "prompt_length", "lm")


@dataclass(frozen=True)
class Run:
    """What ``test`` and ``predict`` left in a run's folder.

    Attributes:
        folder: the run's.
        results: the file that was read.
        rows: result records of the targets that were searched; columns that the file lacks are None.
        settings: ``model.init_args`` of the run, without the LM; empty where the folder has no config.
        tokens: token records of ``predict`` by target id; empty where there is no predictions.parquet.
    """

    folder: Path
    results: Path
    rows: list[Row]
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
    return list(runs.values())


def _missing(path: Path) -> str:
    if not path.exists():
        return f"report: no run {path}; runs are in logs/CONFIG/version_K"
    if (path / "config.yaml").is_file():
        return f"report: {path} has no results.parquet; run lit_prompt test --run {path} first"
    return f"report: {path} is no run's folder (it holds neither results.parquet nor config.yaml)"


def _read(results: Path) -> Run:
    folder = results.parent
    table = _table(results)
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise InputError(f"report: {results} is no file of results (it has no column {missing[0]})")
    absent = dict.fromkeys(name for name in SCHEMA.names if name not in table.column_names)
    rows = [absent | row for row in table.to_pylist() if row["kl"] is not None]
    if not rows:
        raise InputError(f"report: {results} holds no target that was searched; run lit_prompt fit --run {folder}")
    tokens: dict[str, list[Row]] = {}
    if (predictions := newest(folder, "predictions.parquet")) is not None:
        for token in _table(predictions).to_pylist():
            tokens.setdefault(token["target_id"], []).append(token)
    return Run(folder, results, rows, _settings(folder / "config.yaml"), tokens)


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"report: {path} cannot be read ({' '.join(str(error).split())})") from error


def _settings(config: Path) -> dict[str, Any]:
    if not config.is_file():
        return {}
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return {k: v for k, v in settings["model"]["init_args"].items() if k not in ("lm", "lm_options")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"report: {config} is not the config of a run; move it away to go on without it") from error
