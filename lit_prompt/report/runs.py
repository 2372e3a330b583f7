"""Reads the results of runs."""

import logging
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from lit_prompt.errors import InputError
from lit_prompt.files import newest, numbered
from lit_prompt.records.floors import refuse_impossible_floors
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import method_label, prompts_of, read_results
from lit_prompt.records.run_config import change_of
from lit_prompt.records.tasks import by_task, told_rows
from lit_prompt.results.rows import Row, grouped, searched_objective
from lit_prompt.results.transfer import results_on_others

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What ``test`` and ``predict`` left in a run's folder.

    The rows are the result records of the targets that were searched for; there are none where a server tells bounds
    alone. A column ``run`` tells those of one run from
    another's with the same ids.
    """

    folder: Path
    results: Path
    rows: list[Row]
    not_finite: int  #: targets that are left out, as the KL of one of their task is infinite or not a number
    settings: dict[str, Any]  #: ``model.init_args`` of the run, without the LM; empty where the folder has no config
    tokens: dict[str, list[Row]]  #: token records of ``predict`` by target id; empty without predictions.parquet
    bounds: list[Row]  #: result records of targets whose KL a server does not tell, but a bound below
    held_out: list[Row]  #: result records of targets that were held out of their tasks' searches
    on_others: list[list[Row]]  #: for each other LM that the prompts were tested on, its result records

    @property
    def any_row(self) -> Row:
        """A record, be it a result or a bound, for what all have in common."""
        return (self.rows or self.bounds)[0]

    @property
    def method(self) -> str:
        """Name of the search method, with the size of mixtures, or what it minimises where that is not the KL."""
        name, objective = method_label(str(self.any_row["method"])), searched_objective(self.rows)
        if self.any_row.get("components") is not None:
            most = self.settings.get("components", max(row["components"] for row in self.rows))
            name = f"{name}, mixtures of {most}"
        return name if objective is None else f"{name} by {objective}"


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads runs, each once, from their folders or from results files in them.

    Of several, those that were not tested are left out, with a note.

    Raises:
        InputError: if one is no run, none was tested, or results cannot be read.
    """
    runs: dict[Path, Run] = {}
    untested: list[Path] = []
    for path in paths:
        results = path if path.suffix == ".parquet" else newest(path, "results.parquet")
        if results is None and (path / "config.yaml").is_file() and len(paths) > 1:
            untested.append(path)
            continue
        if results is None or not results.is_file():
            raise InputError(_missing(path))
        runs.setdefault(results.resolve(), _read(results))
    if not runs:
        raise InputError(_missing(untested[0]))
    for path in untested:
        _log.warning("left out: %s was not tested (lit_prompt test --run %s)", path, shlex.quote(str(path)))
    rows = [row for run in runs.values() for row in run.rows]
    if any(row["target_fingerprint"] is None for row in rows):
        for row in rows:  # an older version's: no target has one, so that the same ones are known to be the same
            row["target_fingerprint"] = None
    return list(runs.values())


def _missing(path: Path) -> str:
    if not path.exists():
        return f"report: no run {path}; runs are in logs/CONFIG/version_K"
    if (path / "config.yaml").is_file():
        return f"report: {path} has no results.parquet; run lit_prompt test --run {shlex.quote(str(path))} first"
    return f"report: {path} is no run's folder (it holds neither results.parquet nor config.yaml)"


def _read(results: Path) -> Run:
    folder = results.parent
    table = read_results(results, folder)
    every = table.to_pylist()
    bounds = [row for row in every if row["kl_at_least"] is not None]
    searched = [_finite(row) | {"run": str(results)} for row in told_rows(every)]
    if not searched and not bounds:
        resume = f"lit_prompt fit --run {shlex.quote(str(folder))}"
        raise InputError(f"report: {results} holds no target that was searched; run {resume}")
    whole = (task for task in by_task(searched).values() if all(math.isfinite(row["kl"]) for row in task))
    finite = list(chain.from_iterable(whole))
    rows, held_out = ([row for row in finite if (row["split"] == "test") is side] for side in (False, True))
    if not rows and searched:
        raise InputError(f"report: {results} holds no KL that is finite; search again with another start or precision")
    tokens = _tokens(folder, results, prompts_of(table))
    known = (token for token in map(_finite, tokens) if all(token[name] is not None for name in PREDICTIONS.needed))
    by_target = grouped(known, itemgetter("target_id"))
    on_others = {path: read_results(path, folder).to_pylist() for path in results_on_others(folder)}
    for path, each in {results: finite, **on_others}.items():
        refuse_impossible_floors(
            each, str(path), f"evaluate again with lit_prompt test --run {shlex.quote(str(folder))}"
        )
    others = [[_finite(row) for row in each] for each in on_others.values()]
    settings = _settings(folder / "config.yaml")
    return Run(folder, results, rows, len(searched) - len(finite), settings, by_target, bounds, held_out, others)


def _tokens(folder: Path, results: Path, prompts: str | None) -> list[Row]:
    """Token records of the prompts that results are of, by their checksum; the newest ones where that is not known."""
    others = []
    for path in numbered(folder, "predictions.parquet"):
        table = PREDICTIONS.read(path)
        if None in (prompts, found := prompts_of(table)) or prompts == found:
            return table.to_pylist()
        others.append(path)
    if others:
        run = shlex.quote(str(folder))
        raise InputError(
            f"report: {others[0]} is of other prompts than {results}; run lit_prompt predict --run {run} again"
        )
    return []


def _finite(row: Row) -> Row:
    """Nulls for values that are infinite or NaN, except in the KL: such rows are left out and counted."""
    return {k: None if isinstance(v, float) and k != "kl" and not math.isfinite(v) else v for k, v in row.items()}


def _settings(config: Path) -> dict[str, Any]:
    if not config.is_file():
        return {}
    try:
        content = config.read_bytes()
        if (change := change_of(config, content)) is not None:
            _log.warning("%s", change)
        settings = yaml.safe_load(content.decode("utf-8"))
        return {k: v for k, v in settings["model"]["init_args"].items() if k not in ("lm", "lm_options")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"report: {config} is not the config of a run; move it away to report without it") from error
