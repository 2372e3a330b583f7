"""Texts scored and evaluated on an LM at hand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import kl_divergence
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.pasted import PastedEvaluator
from lit_prompt.models.record_columns import search_columns
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Member, Slots
from lit_prompt.scoring.text_scorer import TextScorer
from lit_prompt.search import SearchResults

if TYPE_CHECKING:
    from lit_prompt.models.text import TextPrompt


class AtHandScorer(TextScorer):
    """Scores texts as an evaluation does.

    Args:
        slots: what is searched.
        module: gives the LM, the contexts and what evaluates.
        batch: the targets.
    """

    def __init__(self, slots: Slots, module: "TextPrompt", batch: TargetBatch) -> None:
        super().__init__(slots)
        self._module, self._evaluation = module, PastedEvaluator(module)
        self._log_p = target_outcomes(batch)

    @torch.no_grad()
    def divergences(self, texts: Sequence[str], members: Sequence[Member]) -> tuple[Tensor, list[int]]:
        """As of :meth:`TextScorer.divergences`."""
        contexts = self._module.contexts
        pasted = [contexts.pasted(member.context, text) for text in texts for member in members]
        trees = [member.tree for _ in texts for member in members]
        rows = [member.target for _ in texts for member in members]
        log_q = self._evaluation.after(pasted, trees)[0]
        kl = kl_divergence(self._log_p[rows, : log_q.shape[1]], log_q)
        passes = len({context for member in members for context in member.contexts})
        return kl.unflatten(0, (len(texts), len(members))), [passes] * len(texts)


class TextEvaluator(Evaluation[SearchResults]):
    """Evaluates texts that were found on an LM at hand."""

    _module: "TextPrompt"

    def columns(self, batch: TargetBatch, prompts: SearchResults, compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`."""
        module = self._module
        found = found_texts(module, batch, prompts)
        columns, log_q = PastedEvaluator(module).columns(batch, found, compared)
        self.chosen |= dict.fromkeys(batch.task, 0)
        return columns | search_columns(batch, prompts) | {"prompt_length": [module.length] * len(batch)}, log_q

    def start(self, prompts: SearchResults) -> None:
        """As of :meth:`Evaluation.start`."""
        refuse_nothing_found(prompts)
        super().start(prompts)


def found_texts(module: "TextPrompt", batch: TargetBatch, prompts: SearchResults) -> dict[str, str]:
    """The texts of the prompts that were found for some targets' tasks, by the tasks' ids."""
    found = [task for task in batch.tasks if bool(prompts.searched[task])]
    texts = module.prompt_texts(found, prompts.prompts[found, 0].tolist())
    return {module.data.targets.task_ids[task]: text for task, text in zip(found, texts, strict=True)}


def refuse_nothing_found(prompts: SearchResults) -> None:
    """Raises InputError where nothing has been searched yet."""
    if not bool(prompts.searched.any()):
        raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
