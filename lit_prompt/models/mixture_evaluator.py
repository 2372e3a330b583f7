"""The evaluation of mixtures of prompts: what is drawn after a prompt that is drawn by its weight."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.precision import double
from lit_prompt.models.evaluator import Chosen, Evaluator, Tried
from lit_prompt.models.outcomes import Reached, target_outcomes
from lit_prompt.models.prompt_texts import prompt_texts
from lit_prompt.models.record_columns import known_values, least_restart, without_excess
from lit_prompt.models.token_floors import token_floor_columns
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults
from lit_prompt.search.mixture_results import MixtureResults

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


@dataclass(frozen=True)
class TriedMixtures(Tried):
    """As :class:`Tried`; prompts are ``[target, restart, component, ...]``, what they reach is their mixtures'."""

    singles: Tensor  #: KL of each component alone, ``[target, restart, component]``; ``inf`` where there is none
    gains: Tensor  #: of each beside the mixture, in the way of sampling that was searched; 0 where there is none

    @property
    def measures(self) -> Tensor:
        """As of :attr:`Tried.measures`: what was minimised, the KLs of the components, and their gains."""
        return torch.cat([super().measures, self.singles, self.gains], 2)


class MixtureEvaluator(Evaluator):
    """Evaluates the mixtures that a module has found, on its LM.

    Attributes:
        totals: of each task that was evaluated the measures of its best restart, ``[measure]``.
    """

    def __init__(self, module: "PromptModule") -> None:
        super().__init__(module)
        self.totals: dict[int, Tensor] = {}

    def forget(self) -> None:
        """As of :meth:`Evaluation.forget`."""
        super().forget()
        self.totals.clear()

    def _tried(self, batch: TargetBatch, prompts: SearchResults) -> TriedMixtures:
        assert isinstance(prompts, MixtureResults)
        tasks = torch.tensor(batch.task)
        found, counts, weights = prompts.prompts[tasks], prompts.counts[tasks], prompts.weights[tasks]
        shape = found.shape[:3]
        there = torch.arange(shape[2]) < counts.unsqueeze(2)
        rows = there.nonzero()
        ways = self._ways()
        distinct = list(dict.fromkeys(ways))
        contexts, log_p = self._module.contexts.of_all(batch), target_outcomes(batch)
        of_rows = rows[:, 0].tolist()
        log_q, held = self.reached(
            found[there], [contexts[i] for i in of_rows], [batch.trees[i] for i in of_rows], distinct
        )
        mixed = [torch.full((*shape[:2], log_p.shape[1]), math.nan, dtype=torch.float64) for _ in distinct]
        singles, gains = torch.full(shape, math.inf, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        bounded = torch.ones(shape[:2], dtype=torch.bool)
        searched = distinct.index(ways[2])
        for target, restart in counts.nonzero().tolist():
            mine = ((rows[:, 0] == target) & (rows[:, 1] == restart)).nonzero().flatten()
            log_weights = weights[target, restart, : len(mine)].log().unsqueeze(1)
            for of_way, own in zip(mixed, log_q, strict=True):
                of_way[target, restart] = -math.inf
                of_way[target, restart, : own.shape[1]] = (own[mine] + log_weights).logsumexp(0)
            width, place = log_q[0].shape[1], (target, restart, slice(len(mine)))
            own_p = log_p[target, :width]
            singles[place] = kl_divergence(own_p.unsqueeze(0), log_q[0][mine])
            has = own_p.isfinite()
            log_m = mixed[searched][target, restart, :width]
            gains[place] = (own_p[has] - log_m[has] + log_q[searched][mine][:, has]).logsumexp(1).exp()
            bounded[target, restart] = held[mine].all()
        by_way = dict(zip(distinct, mixed, strict=True))
        value = self._module.objective.divergence(log_p.unsqueeze(1), by_way[ways[2]])
        reached = Reached([by_way[way] for way in ways[:2]], bounded)
        return TriedMixtures(found, reached, value, singles, gains)

    def _best_restarts(self, batch: TargetBatch, prompts: SearchResults, tried: Tried) -> Tensor:
        for task in batch.tasks:
            if task not in self.totals:  # another process may have chosen
                self.chosen.pop(task, None)
        return super()._best_restarts(batch, prompts, tried)

    def _best_restart(self, task: int, items: list[int], batch: TargetBatch, prompts: SearchResults, own: Tried) -> int:
        total = self._summed(task, items, batch, prompts, own)
        best = least_restart(total[:, 0], prompts.kl[task].isfinite())
        self.totals[task] = total[best]
        return best

    def _prompt_columns(
        self, batch: TargetBatch, prompts: SearchResults, tried: Tried, chosen: Chosen, compared: bool
    ) -> Columns:
        """As of :meth:`Evaluator._prompt_columns`; certified floors are of single prompts, and bound the best one."""
        assert isinstance(prompts, MixtureResults)
        assert isinstance(tried, TriedMixtures)
        rows, size = torch.arange(len(batch)), tried.singles.shape[2]
        known = prompts.searched[torch.tensor(batch.task)]
        totals = torch.stack([self.totals[task] for task in batch.task])
        single = tried.singles[rows, chosen.restart, totals[:, 1 : size + 1].argmin(1)]
        columns: Columns = {"kl_single": known_values(single, known)}
        columns |= without_excess(self.floor_columns(batch, columns["kl_single"], chosen.bounded, compared))
        found = [prompts.drawn(task, int(best)) for task, best in zip(batch.task, chosen.restart, strict=True)]
        every, weights = [own for own, _ in found], [own for _, own in found]
        norms = [float(w @ double(self._norms(own))) if len(w) else None for w, own in zip(weights, every, strict=True)]
        columns |= {
            "components": [len(own) if ok else None for own, ok in zip(weights, known, strict=True)],
            "weights": [own.tolist() if ok else None for own, ok in zip(weights, known, strict=True)],
            "weights_gap": known_values(totals[:, size + 1 :].amax(1).log().clamp_min(0.0), known),
            "prompt_norm": norms,
        }
        if every[0].is_floating_point():
            return columns
        columns |= token_floor_columns(self._module, batch, chosen.kl, [None] * len(batch))
        return columns | self._texts(batch, every, weights, known)

    def _texts(self, batch: TargetBatch, ids: list[Tensor], weights: list[Tensor], known: Tensor) -> Columns:
        """The texts of mixtures, and the KL of the mixtures of those when they are encoded again."""
        contexts, of_rows = self._module.contexts, [i for i, own in enumerate(ids) for _ in own]
        flat = [own.tolist() for of_mixture in ids for own in of_mixture]
        texts = prompt_texts(contexts, self._module.data.targets, [batch.task[i] for i in of_rows], flat)
        around = contexts.of_all(batch)
        again = [contexts.pasted(around[i], text) for i, text in zip(of_rows, texts, strict=True)]
        log_q = self.after(again, [batch.trees[i] for i in of_rows])[0]
        log_p, counts = target_outcomes(batch), [len(own) for own in ids]
        of_targets = zip(log_p, log_q.split(counts), weights, strict=True)
        kl = [
            kl_divergence(p[: q.shape[1]].unsqueeze(0), (q + w.log().unsqueeze(1)).logsumexp(0, keepdim=True))
            for p, q, w in of_targets
        ]
        each = iter(texts)
        return {
            "component_texts": [
                [next(each) for _ in range(n)] if ok else None for n, ok in zip(counts, known, strict=True)
            ],
            "kl_text": [float(x) if ok and not x.isnan() else None for x, ok in zip(kl, known, strict=True)],
        }
