"""The columns of the result record that follow from targets and reached distributions."""

import math

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import (
    entropy,
    js_divergence,
    kl_divergence,
    largest_errors,
    reverse_kl_divergence,
    top_k_overlap,
    total_variation,
)
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults, StopReason

TOP_K = 10


def divergence_columns(
    batch: TargetBatch, reached: Tensor, results: SearchResults, unprompted: Tensor, value: Tensor, best: Tensor
) -> tuple[Columns, Tensor]:
    """The columns of the record that follow from targets, reached distributions and the search's bookkeeping.

    ``reached`` holds the log-probabilities after the found prompts, ``[target, restart, outcome]``, float64, on the
    CPU, ``unprompted`` those without a prompt, ``[target, outcome]``; NaN where that means nothing. ``value`` is what
    was minimised, ``[target, restart]``, ``best`` the restart that counts, ``[target]``. Beside the columns the
    log-probabilities of that restart, ``[target, outcome]``. For a target that was not searched the numbers are null
    and NaN.
    """
    index = torch.tensor(batch.task)
    rows = torch.arange(len(batch))
    log_p = target_outcomes(batch)
    tried = results.kl[index].isfinite()
    searched = tried.any(1)
    kl = kl_divergence(log_p.unsqueeze(1), reached).masked_fill(~tried, math.inf)
    log_q = reached[rows, best].masked_fill(~searched.unsqueeze(1), math.nan)
    restarts = [row[ok] for row, ok in zip(kl, tried, strict=True)]
    columns = target_columns(batch) | reached_columns(batch, log_q, kl[rows, best], unprompted, searched)
    columns |= {
        "restarts": [kl.shape[1]] * len(batch),
        "kl_worst_restart": [float(r.max()) if len(r) else None for r in restarts],
        "kl_restart_std": [float(r.std(correction=0)) if len(r) else None for r in restarts],
        "objective_value": known_values(value[rows, best], searched),
    }
    return columns | search_columns(batch, results, best), log_q


def search_columns(batch: TargetBatch, results: SearchResults, best: Tensor | None = None) -> Columns:
    """The columns that tell of the search; ``best`` is the restart that counts, ``[target]``, by default the first."""
    index = torch.tensor(batch.task)
    reason = results.reason[index, torch.zeros_like(index) if best is None else best]
    return {
        "steps": results.steps[index].tolist(),
        "forward_passes": results.forward_passes[index].tolist(),
        "seconds": results.seconds[index].tolist(),
        "stop_reason": [StopReason(int(r)).name.lower() for r in reason],
    }


def least_restart(value: Tensor, tried: Tensor) -> int:
    """The restart of least ``value`` ``[restart]`` of those that were tried, ``[restart]``, bool."""
    # a prompt that gives a KL of inf or NaN here was tried all the same
    return int(torch.where(tried, value.nan_to_num(nan=1e300, posinf=1e300), math.inf).argmin())


def target_columns(batch: TargetBatch) -> Columns:
    """The columns that tell which target a record is of."""
    return {
        "target_id": batch.target_id,
        "family": batch.family,
        "partner_of": batch.partner_of,
        "task": batch.task_id,
        "weight": batch.weight.tolist(),
        "split": ["test" if held_out else "train" for held_out in batch.held_out],
        "target_fingerprint": batch.fingerprints,
    }


def reached_columns(batch: TargetBatch, log_q: Tensor, kl: Tensor, unprompted: Tensor, has_prompt: Tensor) -> Columns:
    """The columns that follow from targets and what was reached, ``[target, outcome]``, float64.

    ``kl`` is the KL(target || reached) in nats, ``[target]``, ``unprompted`` what the LM gives without a prompt (NaN
    where that means nothing), ``has_prompt`` tells which targets have one, ``[target]``: the others' columns are null.
    """
    log_p = target_outcomes(batch)
    h = entropy(log_p)
    return {
        "entropy": h.tolist(),
        "kl": known_values(kl, has_prompt),
        "kl_uniform": [
            math.log(batch.log_probs.shape[1]) - float(own) if tree is None else _kl_uniform(tree, batch.log_probs)
            for own, tree in zip(h, batch.trees, strict=True)
        ],
        "kl_unprompted": [None if math.isnan(x) else x for x in kl_divergence(log_p, unprompted).tolist()],
        "prompt_entropy": known_values(entropy(log_q), has_prompt),
        "reverse_kl": known_values(reverse_kl_divergence(log_p, log_q), has_prompt),
        "js": known_values(js_divergence(log_p, log_q), has_prompt),
        "tv": known_values(total_variation(log_p, log_q), has_prompt),
        "top10_overlap": known_values(top_k_overlap(log_p, log_q, TOP_K), has_prompt),
    }


def _kl_uniform(tree: AnswerTree, log_probs: Tensor) -> float:
    """KL(target || uniform) over answers in nats, where every token is as likely as any other."""
    return float(tree.kl(torch.full((len(tree.token),), -math.log(log_probs.shape[1]), dtype=torch.float64)))


def known_values(values: Tensor, known: Tensor) -> list[float | None]:
    """A column of values ``[target]``; null where they are not ``known``, ``[target]``."""
    return [float(v) if ok else None for v, ok in zip(values, known, strict=True)]


def told_outcomes(p: Tensor, q: Tensor) -> list[int]:
    """The outcomes of which token records tell, of probabilities ``[outcome]``: the likeliest, and the most wrong."""
    return list(dict.fromkeys([*top_tokens(p, q), *largest_errors(p, q)]))


def top_tokens(p: Tensor, q: Tensor, k: int = TOP_K) -> list[int]:
    """The tokens that are among the k most likely of p or of q, both ``[vocab]``, by the larger of the two."""
    # not the tokens that fill up a sparse target's top k
    chosen = {i for x, least in ((p, 0.0), (q, 1e-6)) for i in x.topk(min(k, len(x))).indices.tolist() if x[i] > least}
    return sorted(chosen, key=lambda i: -max(float(p[i]), float(q[i])))


def without_excess(columns: Columns) -> Columns:
    """Floor columns of single prompts beside a mixture, which may pass below them: nothing is in excess of them."""
    return {name: [None] * len(own) if name.startswith("excess") else own for name, own in columns.items()}
