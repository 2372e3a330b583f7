"""Soft prompts from the sphere problem, with gradient search where those fail."""

import logging
from collections.abc import Sequence

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.models.prompt_init import PromptInit
from lit_prompt.models.soft import SoftPrompt
from lit_prompt.search import StopReason

_log = logging.getLogger(__name__)


class LiftPrompt(SoftPrompt):
    """Finds soft prompts without a gradient step through the LM.

    The best next-token distribution that the LM's final norm and head allow is the solution of a small problem without
    the transformer (the sphere problem); in a pre-norm transformer a single long embedding at the last position
    reaches it. Each prompt's KL is measured with the LM. A target whose lifted prompt stays above the sphere's value
    (a post-norm LM, text after the prompt, an LM without that geometry) is searched by gradient descent from where it
    is, as SoftPrompt does it; its stop_reason says so: ``lift`` for a lifted prompt, otherwise that of the search.

    Args:
        length: embeddings of a prompt; the last one is lifted.
        steps: most gradient steps for a target that the lift does not solve.
        optimizer: of those steps.
        tolerance: a lifted prompt stands when its KL is at most this many nats above the sphere's value.
        patience: a gradient search ends after this many steps without a better KL; null for never.
        before: fixed text before the prompt. A target's own text takes its place.
        after: fixed text between the prompt and the predicted token. A target's own text takes its place.
        seed: base of the seeds of what is random.
    """

    method = "lift"

    def __init__(
        self,
        length: int = 1,
        steps: int = 500,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=0.1),
        tolerance: float = 1e-3,
        patience: int | None = None,
        before: str = "",
        after: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(
            length=length, steps=steps, optimizer=optimizer, init=PromptInit("lift"), patience=patience, before=before,
            after=after, seed=seed,
        )  # fmt: skip
        self.tolerance = tolerance

    def settings(self) -> dict[str, object]:
        """What defines the search: plain values, shown in TensorBoard and compared on resume."""
        return super().settings() | {"tolerance": self.tolerance}

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """The first step measures the lifted prompts and ends where they do; the others are gradient steps."""
        super().training_step(batch, batch_idx)
        if batch_idx == 0 and self.lifts:
            self.best.end(self._is_lifted(batch, self.best.kl), StopReason.LIFT)

    def _is_lifted(self, batch: TargetBatch, kl: Tensor) -> Tensor:
        return kl <= (self.floors.sphere_points(batch)[1] + self.tolerance).to(kl)

    def on_train_end(self) -> None:
        """Says for how many targets the lift did not do."""
        super().on_train_end()
        fell_back = int((self.bank.searched & ~self._solved(range(len(self.targets)))).sum())
        if fell_back:
            _log.warning(
                "%d of %d targets were searched by gradient descent: their lifted prompts stay above what the output "
                "head allows (see stop_reason)", fell_back, len(self.targets)
            )  # fmt: skip

    def _solved(self, index: Sequence[int]) -> Tensor:
        reason = self.bank.reason[torch.tensor(list(index))].squeeze(1)
        return (reason == StopReason.LIFT) | (reason == StopReason.KL_TOLERANCE)
