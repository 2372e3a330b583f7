"""The texts of mixtures that were found on one LM, pasted into another."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.record_columns import known_values, reached_columns, target_columns, without_excess
from lit_prompt.models.searched_parts import searched_parts
from lit_prompt.records.prompt_texts import WeightedText
from lit_prompt.records.results import Columns

_log = logging.getLogger(__name__)

Mixed = Mapping[str, Sequence[WeightedText]]


class _Read(NamedTuple):
    log_m: Tensor  # of the mixtures, [target, outcome]; NaN where a target has none
    singles: list[Tensor]  # KL of each of a target's prompts alone, nats, [prompt]
    length: list[int]  # tokens of the longest of a target's prompts
    bounded: Tensor  # whether floors hold for all of a target's prompts, [target]


class PastedMixtureEvaluator(Evaluation[Mixed]):
    """Evaluates texts that are drawn by their weights, by task; the weights stay as they were found."""

    @torch.no_grad()
    def columns(self, batch: TargetBatch, prompts: Mixed, compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`; ``kl`` and ``kl_text`` are the same, as there are texts alone."""
        module, contexts = self._module, self._module.contexts.of_all(batch)
        read = self._read(batch, prompts)
        known = ~read.log_m.isnan().any(1)
        if left_out := sum(task in prompts for task in batch.task_id) - int(known.sum()):
            _log.warning(
                "%d mixtures have a prompt that is longer, as a text, than what %s takes", left_out, module.lm_path
            )
        log_p, unprompted = target_outcomes(batch), self.unprompted(contexts, batch.trees)
        kl = kl_divergence(log_p, read.log_m)
        columns = target_columns(batch) | reached_columns(batch, read.log_m, kl, unprompted, known)
        totals = {task: self._totals(task, items, batch, read, prompts) for task, items in batch.tasks.items()}
        of_one = [
            float(own[totals[task].argmin()]) if ok else None
            for own, task, ok in zip(read.singles, batch.task, known, strict=True)
        ]
        floors = self.floor_columns(batch, of_one, read.bounded, compared)
        columns |= without_excess(floors)
        found = [prompts[task] if ok else None for task, ok in zip(batch.task_id, known, strict=True)]
        columns |= {
            "kl_single": of_one,
            "components": [None if own is None else len(own) for own in found],
            "weights": [None if own is None else [each.weight for each in own] for own in found],
            "component_texts": [None if own is None else [each.text for each in own] for own in found],
            "kl_text": columns["kl"],
            "prompt_length": read.length,
            "objective_value": known_values(module.objective.divergence(log_p, read.log_m), known),
        }
        return columns | self.context_columns(contexts) | self.constant_columns(len(batch)), read.log_m

    def _read(self, batch: TargetBatch, prompts: Mixed) -> _Read:
        """What the LM gives after the texts of some targets, each by itself and mixed."""
        contexts, log_p = self._module.contexts, target_outcomes(batch)
        around, mixtures = contexts.of_all(batch), [prompts.get(task, ()) for task in batch.task_id]
        rows = [(i, each) for i, own in enumerate(mixtures) for each in own]
        whole = [contexts.pasted(around[i], each.text) for i, each in rows]
        log_q, holds = self.after(whole, [batch.trees[i] for i, _ in rows])
        log_weights = torch.tensor([each.weight for _, each in rows], dtype=torch.float64).log().unsqueeze(1)
        log_m, singles = torch.full_like(log_p, math.nan), []
        length, bounded = [0] * len(batch), torch.ones(len(batch), dtype=torch.bool)
        for (i, _), context in zip(rows, whole, strict=True):
            length[i] = max(length[i], len(context.ids) - len(around[i].ids))
        counts = [len(own) for own in mixtures]
        parts = (x.split(counts) for x in (log_q, log_weights, holds))
        for i, (own, of_own, hold) in enumerate(zip(*parts, strict=True)):
            size = own.shape[1]
            singles.append(kl_divergence(log_p[i : i + 1, :size], own))
            bounded[i] = hold.all()
            if len(own):
                log_m[i] = -math.inf
                log_m[i, :size] = (own + of_own).logsumexp(0)
        return _Read(log_m, singles, length, bounded)

    def _totals(self, task: int, items: list[int], batch: TargetBatch, read: _Read, prompts: Mixed) -> Tensor:
        """KL of each of a task's prompts alone, over the targets that were searched for, nats, ``[prompt]``."""
        parts = searched_parts(self._module, task, items, batch, read, lambda part: self._read(part, prompts))
        return torch.stack([part.weight[i] * own.singles[i] for part, places, own in parts for i in places]).sum(0)
