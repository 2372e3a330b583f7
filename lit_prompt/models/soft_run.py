"""The prompts of a soft run, and the tokens nearest to them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.files import newest
from lit_prompt.functional.projection import nearest_tokens
from lit_prompt.lm import FrozenLM
from lit_prompt.records.prompts import read_prompts
from lit_prompt.search import TokenProblem
from lit_prompt.search.starts import scored


class SoftRun:
    """Embeddings that a soft run has found, by target.

    Args:
        folder: of the run; ``lit_prompt test`` must have been run on it.
        length: positions that the prompts must have.
        lm: the LM that they must belong to.
        target_ids: targets that must have one.

    Raises:
        InputError: if there are no such prompts.
    """

    def __init__(self, folder: str | None, length: int, lm: FrozenLM, target_ids: Sequence[str]) -> None:
        if folder is None:
            raise InputError("model.start.kind is soft, so model.start.soft_run must name the folder of a soft run")
        found = newest(Path(folder), "prompts.safetensors")
        if found is None:
            raise InputError(
                f"model.start.soft_run: {folder} holds no prompts; run lit_prompt test --run {folder} first"
            )
        self._path = found
        prompts, about = read_prompts(found)
        self._prompts = {target_id: torch.from_numpy(prompt) for target_id, prompt in prompts.items()}
        if about.get("lm_fingerprint") != lm.fingerprint:
            raise InputError(f"{self._path}: these prompts belong to another LM, {about.get('lm')}; give the same --lm")
        shapes = {tuple(prompt.shape) for prompt in self._prompts.values()}
        if shapes != {(length, lm.embedding_dim)}:
            raise InputError(
                f"{self._path}: holds prompts of the shapes {sorted(shapes)}, wanted are {length} embeddings of "
                f"{lm.embedding_dim}; give a soft run's own model.length"
            )
        for target_id in target_ids:
            if target_id not in self._prompts:
                raise InputError(
                    f"{self._path}: has no prompt for the target {target_id}; give both runs the same data"
                )

    def embeddings(self, target_id: str) -> Tensor:
        """The prompt of a target, ``[length, embedding]``, float32."""
        return self._prompts[target_id]

    def projected(self, target_id: str, lm: FrozenLM, allowed: Tensor) -> list[Tensor]:
        """The allowed tokens nearest to a target's prompt, by angle and by distance, ``[length]`` each."""
        table = lm.embed(allowed).float()
        prompt = self.embeddings(target_id).to(table)
        return [allowed[nearest_tokens(prompt, table, metric)] for metric in ("cosine", "euclidean")]

    def starts(self, problem: TokenProblem) -> tuple[Tensor, Tensor]:
        """The better projection of each target's prompt, one that survives as text where there is one.

        Args:
            problem: the targets.

        Returns:
            Ids, ``[target, length]``, and their scores in nats, ``[target]``.
        """
        rows = []
        for target, target_id in enumerate(problem.target_ids):
            ids = torch.stack(self.projected(target_id, problem.lm, problem.allowed))
            ids = torch.cat([ids, problem.readable.repaired(ids)])
            own = torch.full((len(ids),), target, device=ids.device)
            best, score = problem.readable.best(ids.unsqueeze(0), problem.scores(ids, own).unsqueeze(0))
            problem.count(own[:1], len(ids))
            rows.append(ids[best[0]] if bool(score.isfinite()) else ids[0])
        return scored(problem, torch.stack(rows))
