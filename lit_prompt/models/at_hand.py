"""Texts scored and evaluated on an LM at hand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence, missed_mass
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.pasted import PastedEvaluator
from lit_prompt.models.text_evaluation import TextEvaluation
from lit_prompt.records.results import Columns
from lit_prompt.scoring import Member, Slots
from lit_prompt.scoring.text_scorer import Divergences, TextScorer
from lit_prompt.search import SearchResults

if TYPE_CHECKING:
    from lit_prompt.models.text import TextPrompt


#: probabilities that are held at once, for all texts and members
_NUMBERS = 2**24


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

    def divergences(self, texts: Sequence[str], members: Sequence[Member]) -> Divergences:
        """As of :meth:`TextScorer.divergences`."""
        at_once = max(1, _NUMBERS // (len(members) * self._log_p.shape[1]))
        parts = [self._part(texts[i : i + at_once], members) for i in range(0, len(texts), at_once)]
        passes = len({context for member in members for context in member.contexts})
        kl, missed = (torch.cat(values) for values in zip(*parts, strict=True))
        return Divergences(kl, missed, [passes] * len(texts))

    @torch.no_grad()
    def _part(self, texts: Sequence[str], members: Sequence[Member]) -> tuple[Tensor, Tensor]:
        """KL and missed mass of some texts, ``[text, member]``."""
        contexts = self._module.contexts
        pasted = [contexts.pasted(member.context, text) for text in texts for member in members]
        trees = [member.tree for _ in texts for member in members]
        rows = [member.target for _ in texts for member in members]
        log_q = self._evaluation.after(pasted, trees)[0]
        log_p = self._log_p[rows, : log_q.shape[1]]
        shape = (len(texts), len(members))
        return kl_divergence(log_p, log_q).view(shape), missed_mass(log_p, log_q).view(shape)


class TextEvaluator(TextEvaluation):
    """Evaluates texts that were found on an LM at hand."""

    def columns(self, batch: TargetBatch, prompts: SearchResults, compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`."""
        columns, log_q = PastedEvaluator(self._module).columns(batch, self._texts(batch, prompts), compared)
        return columns | self._search_columns(batch, prompts), log_q
