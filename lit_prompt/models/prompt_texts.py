"""The texts of token prompts, and the KL after encoding them again."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.functional import kl_divergence
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Contexts

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule
    from lit_prompt.models.evaluation import Evaluation


def prompt_texts(
    contexts: Contexts, targets: TargetSet, tasks: Sequence[int], ids: Sequence[Sequence[int]]
) -> list[str]:
    """The texts of some tasks' prompts, as they stand in their contexts; tasks are given by their numbers."""
    around = [[contexts.of(targets.texts[i]) for i in targets.members(task)] for task in tasks]
    return [contexts.round_trip(own).text(prompt) for own, prompt in zip(around, ids, strict=True)]


def text_columns(
    evaluator: "Evaluation[Any]", module: "PromptModule", batch: TargetBatch, ids: Tensor, searched: list[bool]
) -> Columns:
    """The texts of the targets' prompts, ``[target, length]``, and the KL of those when they are encoded again.

    Null where a target was not ``searched``.
    """
    contexts = module.contexts
    texts = prompt_texts(contexts, module.data.targets, batch.task, ids.tolist())
    around = zip(contexts.of_all(batch), texts, strict=True)
    again = [contexts.pasted(context, text) for context, text in around]
    kl = kl_divergence(target_outcomes(batch), evaluator.after(again, batch.trees)[0]).tolist()
    whole = [contexts.whole(context, text) for context, text in zip(contexts.of_all(batch), texts, strict=True)]
    return {
        "whole_text": [text if ok else None for text, ok in zip(whole, searched, strict=True)],
        "prompt_text": [text if ok else None for text, ok in zip(texts, searched, strict=True)],
        "kl_text": [value if ok and not math.isnan(value) else None for value, ok in zip(kl, searched, strict=True)],
    }
