"""The evaluation of what a search has found."""

import math
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
from lit_prompt.models.token_floors import token_floor_columns
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults

# targets of a task whose distributions are held at once
_TOGETHER = 8


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
        found, reached, value = self._restarts(batch, prompts)
        bounded = reached.bounded
        best_restart = self._best_restarts(batch, prompts, value)
        unprompted = self.unprompted(contexts, batch.trees)
        columns, log_q = divergence_columns(batch, reached.log_q[0], prompts, unprompted, value, best_restart)
        rows = torch.arange(len(batch))
        sampled = reached.log_q[1][rows, best_restart].masked_fill(log_q.isnan(), math.nan)
        columns |= sampling_columns(module, batch, log_q, sampled, compared)
        if compared:
            columns |= self._baselines.columns(batch)
            columns |= asking_columns(self, module, batch)
        columns |= self.floor_columns(batch, columns["kl"], bounded[rows, best_restart], compared)
        best = found[rows, best_restart]
        is_text = not best.is_floating_point()
        columns["prompt_norm"] = (self._lm.embed(best).float() if is_text else best).norm(dim=-1).mean(-1).tolist()
        columns["prompt_length"] = [module.length] * len(batch)
        if is_text:
            columns |= token_floor_columns(module, batch, columns["kl"], columns["kl_floor"])
            known = prompts.searched[torch.tensor(batch.task)].tolist()
            columns |= text_columns(self, module, batch, best, known)
        if module.soft_run is not None and compared:
            columns |= module.soft_run.projection_columns(module, batch)
        return columns | self.context_columns(contexts) | self.constant_columns(len(batch)), log_q

    def _restarts(self, batch: TargetBatch, prompts: SearchResults) -> tuple[Tensor, Reached, Tensor]:
        """The prompts of all restarts, what they reach, plain and as it is sampled, and what was minimised.

        ``[target, restart, ...]``.
        """
        tasks = torch.tensor(batch.task)
        found = prompts.prompts[tasks]
        each = range(found.shape[1])
        contexts = [context for context in self._module.contexts.of_all(batch) for _ in each]
        trees = [tree for tree in batch.trees for _ in each]
        searched = Sampling(temperature=self._module.temperature)
        ways = (PLAIN, self._module.sampling, searched)
        distinct = list(dict.fromkeys(ways))
        log_q, bounded = self.reached(found.flatten(0, 1), contexts, trees, distinct)
        by_way = {way: x.unflatten(0, found.shape[:2]) for way, x in zip(distinct, log_q, strict=True)}
        value = self._module.objective.divergence(target_outcomes(batch).unsqueeze(1), by_way[searched])
        return found, Reached([by_way[way] for way in ways[:2]], bounded.unflatten(0, found.shape[:2])), value

    def _best_restarts(self, batch: TargetBatch, prompts: SearchResults, value: Tensor) -> Tensor:
        """The restart of each target's task that has the least objective, ``[target]``."""
        for task, items in batch.tasks.items():
            if task not in self.chosen:
                self.chosen[task] = self._best_restart(task, items, batch, prompts, value)
        return torch.tensor([self.chosen[task] for task in batch.task])

    def _best_restart(
        self, task: int, items: list[int], batch: TargetBatch, prompts: SearchResults, value: Tensor
    ) -> int:
        tried = prompts.kl[task].isfinite()
        if len(tried) == 1:
            return 0
        searched = self._module.data.targets.members(task)
        total = torch.zeros(len(tried), dtype=torch.float64)
        if searched == [batch.index[i] for i in items]:
            total += value[items].T @ batch.weight[items]
        else:  # some of it are in other batches
            for start in range(0, len(searched), _TOGETHER):
                own = self._module.data.targets.batch(searched[start : start + _TOGETHER])
                total += self._restarts(own, prompts)[2].T @ own.weight
        return least_restart(total, tried)

    def start(self, prompts: SearchResults) -> None:
        """As of :meth:`Evaluation.start`."""
        if not bool(prompts.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        super().start(prompts)
