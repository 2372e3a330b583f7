"""The evaluation of what a search has found."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.lm import PLAIN, Sampling
from lit_prompt.models.asking import asking_columns
from lit_prompt.models.baselines import Baselines
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.outcomes import Reached, target_outcomes
from lit_prompt.models.prompt_texts import text_columns
from lit_prompt.models.record_columns import divergence_columns, least_restart
from lit_prompt.models.sampling_columns import sampling_columns
from lit_prompt.models.searched_parts import searched_parts
from lit_prompt.models.token_floors import token_floor_columns
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults


@dataclass(frozen=True)
class Tried:
    """What all restarts have found for some targets."""

    prompts: Tensor  #: ``[target, restart, ...]``
    reached: Reached  #: plain and as it is sampled, ``[target, restart, outcome]``
    value: Tensor  #: what was minimised, ``[target, restart]``

    @property
    def measures(self) -> Tensor:
        """What is summed over a task's targets, what was minimised first, ``[target, restart, measure]``."""
        return self.value.unsqueeze(2)


@dataclass(frozen=True)
class Chosen:
    """What the best restart of each of some targets' tasks has found."""

    restart: Tensor  #: its number, ``[target]``
    kl: list[float | None]  #: nats
    bounded: Tensor  #: whether floors hold for it, ``[target]``, bool


class Evaluator(Evaluation[SearchResults]):
    """Evaluates the prompts that a module has found, on its LM."""

    @cached_property
    def _baselines(self) -> Baselines:
        module = self._module
        vocabulary, contexts = module.data.vocabulary, module.contexts
        return Baselines(module.lm, vocabulary, contexts, module.length, self._micro_batch, module.known.cache)

    @torch.no_grad()
    def columns(self, batch: TargetBatch, prompts: SearchResults, compared: bool = True) -> tuple[Columns, Tensor]:
        """As of :meth:`Evaluation.columns`; the prompts are those of the restart that has the least objective."""
        module = self._module
        contexts = module.contexts.of_all(batch)
        self._has_floors = compared or any(floor is not None for floor in module.known.floors.known(batch))
        tried = self._tried(batch, prompts)
        plain, as_sampled = tried.reached.log_q
        best_restart = self._best_restarts(batch, prompts, tried)
        unprompted = self.unprompted(contexts, batch.trees)
        columns, log_q = divergence_columns(batch, plain, prompts, unprompted, tried.value, best_restart)
        rows = torch.arange(len(batch))
        sampled = as_sampled[rows, best_restart].masked_fill(log_q.isnan(), math.nan)
        columns |= sampling_columns(module, batch, log_q, sampled, compared)
        if compared:
            columns |= self._baselines.columns(batch)
            columns |= asking_columns(self, module, batch)
        chosen = Chosen(best_restart, columns["kl"], tried.reached.bounded[rows, best_restart])
        columns |= self._prompt_columns(batch, prompts, tried, chosen, compared)
        columns["prompt_length"] = [module.length] * len(batch)
        if module.soft_run is not None and compared:
            columns |= module.soft_run.projection_columns(module, batch)
        return columns | self.context_columns(contexts) | self.constant_columns(len(batch)), log_q

    def _prompt_columns(
        self, batch: TargetBatch, prompts: SearchResults, tried: Tried, chosen: Chosen, compared: bool
    ) -> Columns:
        """Floors and what else follows from the best prompts; arguments as of :meth:`columns`."""
        columns: Columns = dict(self.floor_columns(batch, chosen.kl, chosen.bounded, compared))
        best = tried.prompts[torch.arange(len(batch)), chosen.restart]
        is_text = not best.is_floating_point()
        columns["prompt_norm"] = self._norms(best).tolist()
        if is_text:
            columns |= token_floor_columns(self._module, batch, chosen.kl, columns["kl_floor"])
            known = prompts.searched[torch.tensor(batch.task)].tolist()
            columns |= text_columns(self, self._module, batch, best, known)
        return columns

    def _norms(self, prompts: Tensor) -> Tensor:
        """Mean lengths of prompts' embeddings, ``[..., length]`` or ``[..., length, embedding]`` to ``[...]``."""
        embedded = prompts if prompts.is_floating_point() else self._lm.embed(prompts).float()
        return embedded.norm(dim=-1).mean(-1)

    def _ways(self) -> tuple[Sampling, Sampling, Sampling]:
        """How tokens are drawn: plainly, as they are to be, and as it was searched for."""
        return PLAIN, self._module.sampling, Sampling(temperature=self._module.temperature)

    def _tried(self, batch: TargetBatch, prompts: SearchResults) -> Tried:
        """The prompts of all restarts, what they reach, plain and as it is sampled, and what was minimised."""
        tasks = torch.tensor(batch.task)
        found = prompts.prompts[tasks]
        each = range(found.shape[1])
        contexts = [context for context in self._module.contexts.of_all(batch) for _ in each]
        trees = [tree for tree in batch.trees for _ in each]
        ways = self._ways()
        distinct = list(dict.fromkeys(ways))
        log_q, bounded = self.reached(found.flatten(0, 1), contexts, trees, distinct)
        by_way = {way: x.unflatten(0, found.shape[:2]) for way, x in zip(distinct, log_q, strict=True)}
        value = self._module.objective.divergence(target_outcomes(batch).unsqueeze(1), by_way[ways[2]])
        return Tried(found, Reached([by_way[way] for way in ways[:2]], bounded.unflatten(0, found.shape[:2])), value)

    def _best_restarts(self, batch: TargetBatch, prompts: SearchResults, tried: Tried) -> Tensor:
        """The restart of each target's task that has the least objective, ``[target]``."""
        for task, items in batch.tasks.items():
            if task not in self.chosen:
                self.chosen[task] = self._best_restart(task, items, batch, prompts, tried)
        return torch.tensor([self.chosen[task] for task in batch.task])

    def _best_restart(self, task: int, items: list[int], batch: TargetBatch, prompts: SearchResults, own: Tried) -> int:
        tried = prompts.kl[task].isfinite()
        if len(tried) == 1:
            return 0
        return least_restart(self._summed(task, items, batch, prompts, own)[:, 0], tried)

    def _summed(self, task: int, items: list[int], batch: TargetBatch, prompts: SearchResults, own: Tried) -> Tensor:
        """The measures of a task's restarts, ``[restart, measure]``, summed by weight over the targets searched for."""
        total = torch.zeros(own.measures.shape[1:], dtype=torch.float64)
        parts = searched_parts(self._module, task, items, batch, own, lambda part: self._tried(part, prompts))
        for part, places, tried in parts:
            total += torch.einsum("t,trm->rm", part.weight[places], tried.measures[places])
        return total

    def start(self, prompts: SearchResults) -> None:
        """As of :meth:`Evaluation.start`."""
        if not bool(prompts.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        super().start(prompts)
