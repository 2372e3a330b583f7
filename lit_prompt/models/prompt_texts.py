"""The texts of token prompts, and the KL after encoding them again."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.precision import double
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Context, Contexts

if TYPE_CHECKING:
    from lit_prompt.models.evaluation import Evaluation


def prompt_texts(contexts: Contexts, batch: TargetBatch, ids: Sequence[Sequence[int]]) -> list[str]:
    """The texts of some targets' prompts, as they stand in their contexts."""
    trips = [contexts.round_trip(context) for context in contexts.of_all(batch)]
    return [trip.text(own) for trip, own in zip(trips, ids, strict=True)]


def text_columns(
    evaluator: "Evaluation[Any]", contexts: Contexts, batch: TargetBatch, ids: Tensor, searched: list[bool]
) -> Columns:
    """The texts of the targets' prompts, ``[target, length]``, and the KL of those when they are encoded again.

    Null where a target was not ``searched``.
    """
    trips = [contexts.round_trip(context) for context in contexts.of_all(batch)]
    texts = prompt_texts(contexts, batch, ids.tolist())
    again = [trip.read_again([own])[0] for trip, own in zip(trips, ids.tolist(), strict=True)]
    log_q, _ = evaluator.after([Context("", "", tuple(own), (), own=False) for own in again])
    kl = kl_divergence(double(batch.log_probs), log_q).tolist()
    return {
        "prompt_text": [text if ok else None for text, ok in zip(texts, searched, strict=True)],
        "kl_text": [value if ok and not math.isnan(value) else None for value, ok in zip(kl, searched, strict=True)],
    }
