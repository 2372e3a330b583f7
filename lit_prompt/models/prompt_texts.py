"""The texts of token prompts, and what becomes of the KL when those are read again."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.precision import double
from lit_prompt.results.record import Columns
from lit_prompt.scoring import Context

if TYPE_CHECKING:
    from lit_prompt.models.evaluation import Evaluator
    from lit_prompt.models.hard import HardPrompt


def text_columns(
    evaluator: "Evaluator", module: "HardPrompt", batch: TargetBatch, ids: Tensor, searched: list[bool]
) -> Columns:
    """The prompts' texts, and the KL of what the LM makes of them when they are decoded and encoded again.

    Args:
        evaluator: asks the LM.
        module: whose prompts they are.
        batch: the targets.
        ids: the prompts, ``[target, length]``.
        searched: whether each target has one.
    """
    contexts = module.contexts.of_all(batch)
    trips = [module.contexts.round_trip(context) for context in contexts]
    again = [trip.read_again([own])[0] for trip, own in zip(trips, ids.tolist(), strict=True)]
    log_q = evaluator.after([Context("", "", tuple(own), (), own=False) for own in again])
    kl = kl_divergence(double(batch.log_probs), log_q).tolist()
    columns = _projection_columns(evaluator, module, batch, contexts)
    return columns | {
        "prompt_text": [
            trip.text(own) if ok else None for trip, own, ok in zip(trips, ids.tolist(), searched, strict=True)
        ],
        "kl_text": [value if ok and not math.isnan(value) else None for value, ok in zip(kl, searched, strict=True)],
    }


def _projection_columns(
    evaluator: "Evaluator", module: "HardPrompt", batch: TargetBatch, contexts: list[Context]
) -> Columns:
    """What is lost when soft prompts become the tokens nearest to them: the better of two projections."""
    if module.soft_run is None:
        return {}
    soft = torch.stack([module.soft_run.embeddings(target_id) for target_id in batch.target_id])
    projected = [torch.stack(module.soft_run.projected(name, module.lm, module.allowed)) for name in batch.target_id]
    hard = torch.stack(projected, 1)  # [metric, target, length]
    log_p = double(batch.log_probs)
    kl = [kl_divergence(log_p, evaluator.reached(prompts, contexts)[0]) for prompts in (soft, *hard)]
    return {"kl_soft": kl[0].tolist(), "kl_projected": torch.minimum(kl[1], kl[2]).tolist()}
