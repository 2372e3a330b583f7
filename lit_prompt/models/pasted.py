"""The texts of prompts that were found on one LM, pasted into another."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.lm import FrozenLM
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.pasted_mixtures import PastedMixtureEvaluator
from lit_prompt.models.record_columns import known_values, reached_columns, target_columns
from lit_prompt.records.prompt_texts import WeightedText
from lit_prompt.records.results import Columns
from lit_prompt.results.transfer import folder_on
from lit_prompt.scoring import Contexts

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PastedTexts:
    """A hard search's prompts, to be evaluated on another LM: as texts, between the same texts, as that LM reads them.

    Attributes:
        texts: of the prompts, by task; of mixtures, with their weights.
        lm: the other LM.
        checksum: of the prompts; None where a former version wrote them.
    """

    texts: Mapping[str, Sequence[WeightedText]]
    lm: FrozenLM
    checksum: str | None = None

    def folder(self, lm_path: str) -> str:
        """Where in a run's folder the results go."""
        return folder_on(lm_path, self.lm.fingerprint)

    def configure(self, module: "PromptModule") -> None:
        """Puts LM and texts in place of what a module has searched with and found."""
        mixed = module.components > 1
        texts = self.texts if mixed else {task: own.text for task, (own,) in self.texts.items()}
        module.lm, module.lm_path, module.results = self.lm, module.data.lm, texts
        with torch.device("cpu"):  # Lightning makes the trainer's device the default one here
            module.contexts = Contexts(module.before, module.after, self.lm, module.data.vocabulary)
            module.evaluator = PastedMixtureEvaluator(module) if mixed else PastedEvaluator(module)


class PastedEvaluator(Evaluation[Mapping[str, str]]):
    """Evaluates texts of prompts by task."""

    @torch.no_grad()
    def columns(self, batch: TargetBatch, prompts: Mapping[str, str], compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`; ``kl`` and ``kl_text`` are the same, as there are texts alone."""
        module = self._module
        contexts = module.contexts.of_all(batch)
        texts = [prompts.get(task_id) for task_id in batch.task_id]
        whole = [module.contexts.pasted(context, text or "") for context, text in zip(contexts, texts, strict=True)]
        has_prompt = torch.tensor([text is not None for text in texts])
        taken = torch.tensor([self.takes(context) for context in whole])
        if left_out := int((has_prompt & ~taken).sum()):
            _log.warning("%d prompts are longer, as texts, than what %s takes", left_out, module.lm_path)
        has_prompt &= taken
        log_q, bounded = self.after(whole, batch.trees)
        log_q[~has_prompt] = torch.nan
        log_p = target_outcomes(batch)
        kl = kl_divergence(log_p, log_q)
        unprompted = self.unprompted(contexts, batch.trees)
        columns = target_columns(batch) | reached_columns(batch, log_q, kl, unprompted, has_prompt)
        columns |= self.floor_columns(batch, columns["kl"], bounded, compared)
        columns["objective_value"] = known_values(module.objective.divergence(log_p, log_q), has_prompt)
        columns["prompt_length"] = [len(a.ids) - len(b.ids) for a, b in zip(whole, contexts, strict=True)]
        columns["prompt_text"], columns["kl_text"] = texts, columns["kl"]
        pairs = zip(contexts, texts, strict=True)
        columns["whole_text"] = [None if text is None else module.contexts.whole(c, text) for c, text in pairs]
        return columns | self.context_columns(contexts) | self.constant_columns(len(batch)), log_q
