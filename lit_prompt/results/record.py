"""The result record: one row a target, every number recomputed from the saved prompts."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.files import replaced_whole
from lit_prompt.functional import (
    entropy,
    js_divergence,
    kl_divergence,
    normalize_log_probs,
    reverse_kl_divergence,
    top_k_overlap,
    total_variation,
)
from lit_prompt.functional.precision import double
from lit_prompt.search import ResultBank, StopReason

TOP_K = 10

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

#: Columns of ``predictions.parquet``, a row a token of a target; see ``PromptModule.token_records``.
TOKEN_SCHEMA = pa.schema(
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


def divergence_columns(
    batch: TargetBatch, reached: Tensor, bank: ResultBank, unprompted: Tensor
) -> tuple[Columns, Tensor]:
    """The columns of the record that follow from targets, reached distributions and the bank's bookkeeping.

    Args:
        batch: the targets.
        reached: log-probabilities after the bank's prompts, ``[target, restart, vocab]``, float64, on CPU.
        bank: the prompts' bank; its KLs are not used, only which restarts have one.
        unprompted: log-probabilities without a prompt, ``[target, vocab]``; NaN where that means nothing.

    Returns:
        The columns, and the log-probabilities of each target's best restart, ``[target, vocab]``. For a target
        that was not searched the numbers are null and NaN.
    """
    index = torch.tensor(batch.index)
    rows = torch.arange(len(batch))
    log_p = normalize_log_probs(double(batch.log_probs))
    tried = bank.kl[index].isfinite()
    searched = tried.any(1)
    kl = kl_divergence(log_p.unsqueeze(1), reached).masked_fill(~tried, math.inf)
    # a prompt that gives a KL of inf or NaN here was tried all the same
    best = torch.where(tried, kl.nan_to_num(nan=1e300, posinf=1e300), math.inf).argmin(1)
    log_q = reached[rows, best].masked_fill(~searched.unsqueeze(1), math.nan)
    restarts = [row[ok] for row, ok in zip(kl, tried, strict=True)]
    h = entropy(log_p)

    def known(values: Tensor) -> list[float | None]:
        return [float(v) if ok else None for v, ok in zip(values, searched, strict=True)]

    columns: Columns = {
        "target_id": batch.target_id,
        "family": batch.family,
        "partner_of": batch.partner_of,
        "target_fingerprint": batch.fingerprints,
        "entropy": h.tolist(),
        "kl": known(kl[rows, best]),
        "kl_uniform": (math.log(log_p.shape[-1]) - h).tolist(),
        "kl_unprompted": [None if math.isnan(x) else x for x in kl_divergence(log_p, unprompted).tolist()],
        "prompt_entropy": known(entropy(log_q)),
        "reverse_kl": known(reverse_kl_divergence(log_p, log_q)),
        "js": known(js_divergence(log_p, log_q)),
        "tv": known(total_variation(log_p, log_q)),
        "top10_overlap": known(top_k_overlap(log_p, log_q, TOP_K)),
        "restarts": [kl.shape[1]] * len(batch),
        "kl_worst_restart": [float(r.max()) if len(r) else None for r in restarts],
        "kl_restart_std": [float(r.std(correction=0)) if len(r) else None for r in restarts],
        "steps": bank.steps[index].tolist(),
        "forward_passes": bank.forward_passes[index].tolist(),
        "seconds": bank.seconds[index].tolist(),
        "stop_reason": [StopReason(int(r)).name.lower() for r in bank.reason[index, best]],
        "best_restart": best.tolist(),
    }
    return columns, log_q


def top_tokens(p: Tensor, q: Tensor, k: int = TOP_K) -> list[int]:
    """The tokens that are among the k most likely of p or of q, both ``[vocab]``, by the larger of the two."""
    chosen = set(p.topk(min(k, len(p))).indices.tolist()) | set(q.topk(min(k, len(q))).indices.tolist())
    chosen = {i for i in chosen if p[i] > 0 or q[i] > 1e-6}  # not the tokens that fill up a sparse target's top k
    return sorted(chosen, key=lambda i: -max(float(p[i]), float(q[i])))


def result_table(parts: Iterable[Columns]) -> pa.Table:
    """Joins batches of columns into a table with :data:`SCHEMA`; a column that is missing is null."""
    tables = [SCHEMA.empty_table()]
    for columns in parts:
        count = len(columns["target_id"])
        arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in SCHEMA]
        tables.append(pa.Table.from_arrays(arrays, schema=SCHEMA))
    return pa.concat_tables(tables)


def free_path(folder: Path, name: str) -> Path:
    """A path that does not exist yet: ``folder/results.parquet``, else ``folder/results-1.parquet`` and so on."""
    path, k = folder / name, 0
    while path.exists():
        k += 1
        path = folder / f"{Path(name).stem}-{k}{Path(name).suffix}"
    return path


def newest(folder: Path, name: str) -> Path | None:
    """The last of ``results.parquet``, ``results-1.parquet``, ... in a folder; None if there is none."""
    stem, suffix = Path(name).stem, Path(name).suffix
    found: dict[int, Path] = {}
    for path in folder.glob(f"{stem}*{suffix}"):
        number = path.stem.removeprefix(stem).removeprefix("-")
        if path.stem == stem:
            found[0] = path
        elif number.isdecimal():
            found[int(number)] = path
    return found[max(found)] if found else None


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Writes a table, whole or not at all."""
    with replaced_whole(path) as staging, staging.open("wb") as file:  # of a path pyarrow would expand a "~"
        pq.write_table(table, file)
    return path
