"""Whether what is drawn from the LM looks like the target."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import draw_outcomes, draws_to_tell, goodness_of_fit, kl_divergence, seed_for
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.record_columns import known_values, told_outcomes
from lit_prompt.records.results import Columns

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def sampling_columns(
    module: "PromptModule", batch: TargetBatch, log_q: Tensor, sampled: Tensor, compared: bool
) -> Columns:
    """How many draws tell the LM from the target, its KL as it is sampled, and what is drawn from it.

    Args:
        module: says how tokens are sampled and how many are drawn.
        batch: the targets.
        log_q: log-probabilities of outcomes, ``[target, outcome]``, float64; NaN where there is no prompt.
        sampled: the same as tokens are sampled.
        compared: whether to count draws.
    """
    log_p = target_outcomes(batch)
    known = ~log_q.isnan().any(1)
    columns: Columns = {}
    if compared:
        columns["draws_to_tell"] = _draws_to_tell(log_p, log_q, known)
    if not module.sampling.is_plain:
        columns["sampling"] = [str(module.sampling)] * len(batch)
        columns["sampled_kl"] = known_values(kl_divergence(log_p, sampled), known)
        # for the token records; results have no such column
        columns["sampled"] = [_told(*x.exp()) for x in torch.stack([log_p, log_q, sampled], 1)]
        if compared:
            columns["sampled_draws_to_tell"] = _draws_to_tell(log_p, sampled, known)
    if compared and (draws := module.evaluation_options.draws):
        counts = [
            _counts(q, draws, seed_for(module.seed, "draws", name)) if ok else None
            for q, name, ok in zip(sampled, batch.target_id, known.tolist(), strict=True)
        ]
        columns["draws"] = [None if count is None else draws for count in counts]
        columns["draws_p_value"] = [
            None if count is None else goodness_of_fit(count, p, seed_for(module.seed, "test", name))
            for count, p, name in zip(counts, log_p, batch.target_id, strict=True)
        ]
        columns["drawn"] = counts  # for the token records; results have no such column
    return columns


def _draws_to_tell(log_p: Tensor, log_q: Tensor, known: Tensor) -> list[float | None]:
    found = torch.full((len(log_p),), torch.nan, dtype=torch.float64)
    found[known] = draws_to_tell(log_p[known], log_q[known])
    return known_values(found, known)


def _told(p: Tensor, q: Tensor, sampled: Tensor) -> dict[int, float]:
    return {outcome: float(sampled[outcome]) for outcome in told_outcomes(p, q)}


def _counts(log_q: Tensor, draws: int, seed: int) -> Tensor:
    return torch.bincount(draw_outcomes(log_q, draws, seed), minlength=len(log_q))
