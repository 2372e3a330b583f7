"""The evaluation of what a search has found."""

from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.models.baselines import Baselines
from lit_prompt.models.evaluation import Evaluation
from lit_prompt.models.prompt_texts import text_columns
from lit_prompt.models.record_columns import divergence_columns
from lit_prompt.records.results import Columns
from lit_prompt.search import SearchResults


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
        found = prompts.prompts[torch.tensor(batch.index)]
        contexts = module.contexts.of_all(batch)
        in_context = [context for context in contexts for _ in range(found.shape[1])]
        reached, bounded = (x.unflatten(0, found.shape[:2]) for x in self.reached(found.flatten(0, 1), in_context))
        columns, log_q = divergence_columns(batch, reached, prompts, self.unprompted(contexts), module.objective)
        rows, best_restart = torch.arange(len(batch)), torch.tensor(columns["best_restart"])
        self.chosen |= dict(zip(batch.index, columns["best_restart"], strict=True))
        if compared:
            columns |= self._baselines.columns(batch)
        columns |= self.floor_columns(batch, columns["kl"], bounded[rows, best_restart], compared)
        best = found[rows, best_restart]
        is_text = not best.is_floating_point()
        columns["prompt_norm"] = (self._lm.embed(best).float() if is_text else best).norm(dim=-1).mean(-1).tolist()
        columns["prompt_length"] = [module.length] * len(batch)
        if is_text:
            known = prompts.searched[torch.tensor(batch.index)].tolist()
            columns |= text_columns(self, module.contexts, batch, best, known)
        if module.soft_run is not None and compared:
            columns |= module.soft_run.projection_columns(module, batch)
        return columns | self.context_columns(contexts) | self.constant_columns(len(batch)), log_q

    def start(self, prompts: SearchResults) -> None:
        """As of :meth:`Evaluation.start`."""
        if not bool(prompts.searched.any()):
            raise InputError("no prompt has been searched yet; name a run with --run or a checkpoint with --ckpt_path")
        super().start(prompts)
