"""The prompts of a soft run, and the tokens nearest to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import kl_divergence
from lit_prompt.functional.projection import nearest_tokens
from lit_prompt.lm import FrozenLM
from lit_prompt.models.outcomes import target_outcomes
from lit_prompt.models.run_prompts import run_prompts
from lit_prompt.records.results import Columns
from lit_prompt.search import TokenProblem
from lit_prompt.search.starts import scored

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


class SoftRun:
    """Embeddings that a soft run has found, by task.

    Raises:
        InputError: if the run has not ended and saved its prompts, or a target has none there, or
            they are of another length or LM.
    """

    def __init__(self, folder: str, length: int, lm: FrozenLM, task_ids: Sequence[str]) -> None:
        found, self._prompts = run_prompts(folder, "model.start.soft_run", lm, task_ids)
        shapes = {tuple(prompt.shape) for prompt in self._prompts.values()}
        if shapes != {(length, lm.embedding_dim)}:
            raise InputError(
                f"{found}: holds prompts of the shapes {sorted(shapes)}, wanted are {length} embeddings of "
                f"{lm.embedding_dim}; give a soft run's own model.length"
            )

    def embeddings(self, task_id: str) -> Tensor:
        """The prompt of a task, ``[length, embedding]``, float32."""
        return self._prompts[task_id]

    def projected(self, task_id: str, lm: FrozenLM, allowed: Tensor) -> list[Tensor]:
        """The allowed tokens nearest to a task's prompt, by angle and by distance, ``[length]`` each."""
        table = lm.embed(allowed).float()
        prompt = self.embeddings(task_id).to(table)
        return [allowed[nearest_tokens(prompt, table, metric).cpu()] for metric in ("cosine", "euclidean")]

    def starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        """The better projection of each slot's prompt, ``[slot, length]``, with its score in nats, ``[slot]``.

        One that survives as text is taken where there is one.
        """
        slots = torch.arange(len(problem))
        names = [problem.slots.name(slot) for slot in slots.tolist()]
        ids = torch.stack([torch.stack(self.projected(name, problem.lm, problem.allowed)) for name in names])
        own = slots.repeat_interleave(ids.shape[1])
        ids = torch.cat([ids, problem.readable.repaired(ids.flatten(0, 1), own).view_as(ids)], 1)
        scores = problem.scorer.scores(ids.flatten(0, 1), slots.repeat_interleave(ids.shape[1]))
        best, score = problem.readable.best(ids, scores.view(ids.shape[:2]), slots)
        return scored(problem, torch.where(score.isfinite().unsqueeze(1), ids[slots, best], ids[:, 0]))

    def projection_columns(self, module: "PromptModule", batch: TargetBatch) -> Columns:
        """What is lost when soft prompts become the tokens nearest to them: the better of two projections."""
        contexts = module.contexts.of_all(batch)
        soft = torch.stack([self.embeddings(name) for name in batch.task_id])
        assert isinstance(module.allowed, Tensor)  # a search for tokens has it
        projected = [torch.stack(self.projected(name, module.lm, module.allowed)) for name in batch.task_id]
        hard = torch.stack(projected, 1)  # [metric, target, length]
        log_p = target_outcomes(batch)
        reached = [module.evaluator.reached(prompts, contexts, batch.trees).log_q[0] for prompts in (soft, *hard)]
        kl = [kl_divergence(log_p, log_q) for log_q in reached]
        return {"kl_soft": kl[0].tolist(), "kl_projected": torch.minimum(kl[1], kl[2]).tolist()}
