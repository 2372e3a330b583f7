"""The prompts that a run of shorter ones has found, as starts of longer ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.models.run_prompts import run_prompts
from lit_prompt.search import TokenProblem

_TRIES = 64


class ShorterRun:
    """Prompts by task, each shorter than those that are searched.

    Args:
        folder: of the run; its search must have ended.
        length: of the prompts that are searched.
        lm: the LM that they must belong to.
        task_ids: tasks that must have one.
        allowed: token ids that they may hold, ``[allowed]``; None where they must be embeddings.

    Raises:
        InputError: if there are no such prompts.
    """

    def __init__(
        self, folder: str, length: int, lm: FrozenLM, task_ids: Sequence[str], allowed: Tensor | None = None
    ) -> None:
        path, self._prompts = run_prompts(folder, "shorter_run", lm, task_ids)
        for task_id, prompt in self._prompts.items():
            if prompt.is_floating_point() != (allowed is None) or len(prompt) >= length:
                kind = "embeddings" if allowed is None else "tokens"
                raise InputError(f"{path}: wanted are prompts of fewer than {length} {kind}")
            if allowed is not None and not bool(torch.isin(prompt, allowed).all()):
                raise InputError(f"{path}: the prompt of {task_id} holds a token that model.tokens does not allow")

    def lengthened(self, task_id: str, start: Tensor) -> Tensor:
        """A start ``[length, ...]`` whose end is the task's prompt."""
        prompt = self._prompts[task_id]
        return torch.cat([start[: len(start) - len(prompt)], prompt.to(start)])

    def starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        """For each slot the best of some prompts that its task's is the end of.

        Args:
            problem: what is searched.

        Returns:
            Ids, ``[slot, length]``, and their scores in nats, ``[slot]``; ``inf`` where none survives as text.
        """
        slots = torch.arange(len(problem))
        ids = torch.stack([self._tried(problem, slot) for slot in slots.tolist()])
        scores = problem.scorer.scores(ids.flatten(0, 1), slots.repeat_interleave(_TRIES)).view(-1, _TRIES)
        best, score = problem.readable.best(ids, scores, slots)
        return ids[slots, best], score

    def _tried(self, problem: TokenProblem, slot: int) -> Tensor:
        name = problem.slots.name(slot)
        generator = problem.generator(slot, "longer")
        return torch.stack(
            [self.lengthened(name, problem.random_ids(problem.length, generator)) for _ in range(_TRIES)]
        )
