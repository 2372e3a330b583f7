"""What the search of a chunk descends: the KL of every prompt, and its gradient."""

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_from_moments
from lit_prompt.lm import FrozenLM
from lit_prompt.models.context import Contexts, PromptRows, run_in_parts
from lit_prompt.search import MicroBatch


class ChunkObjective:
    """KL(target || LM) of soft prompts, from the targets' moments.

    Args:
        batch: the chunk's targets.
        restarts: prompts for each target, side by side.
        length: embeddings of a prompt.
        lm: the LM.
        contexts: what stands around the prompts.
        micro_batch: how many of them go through the LM at once.
    """

    def __init__(
        self,
        batch: TargetBatch,
        restarts: int,
        length: int,
        lm: FrozenLM,
        contexts: Contexts,
        micro_batch: MicroBatch,
    ) -> None:
        self._lm = lm
        self._micro_batch = micro_batch
        moments, offset = lm.moments(batch.log_probs)
        rows = torch.arange(len(batch), device=moments.device).repeat_interleave(restarts)
        self._moments, self._offset = moments[rows], offset[rows]
        self._entropy = batch.entropy.to(moments.dtype).to(moments.device)[rows]
        around = [context for context in contexts.of_batch(batch) for _ in range(restarts)]
        self._groups = contexts.arrange(around, length)

    def kl_and_gradient(self, prompts: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
        """KLs and the gradient of each with respect to its own prompt.

        Args:
            prompts: ``[slot, length, embedding]``.
            running: which slots are asked for, ``[slot]``, bool.

        Returns:
            Nats, ``[slot]``, and ``[slot, length, embedding]``, float32; ``inf`` and zero where not asked for (on an
            accelerator all are computed).
        """
        kls = torch.full((len(prompts),), torch.inf, device=prompts.device)
        gradient = torch.zeros_like(prompts)

        def add(part: PromptRows) -> None:
            x = prompts[part.rows].requires_grad_()
            with torch.enable_grad():
                kl = self._part_kl(part, x)
                (gradient[part.rows],) = torch.autograd.grad(kl.sum(), x)
            kls[part.rows] = kl.detach().to(kls)

        run_in_parts(self._micro_batch, self._groups_of(running), add)
        return kls, gradient

    @torch.no_grad()
    def kl(self, prompts: Tensor) -> Tensor:
        """KLs of all slots' prompts ``[slot, length, embedding]``, nats, ``[slot]``."""
        kls = torch.empty(len(prompts), device=prompts.device)

        def fill(part: PromptRows) -> None:
            kls[part.rows] = self._part_kl(part, prompts[part.rows]).to(kls)

        run_in_parts(self._micro_batch, self._groups, fill)
        return kls

    def _part_kl(self, part: PromptRows, prompts: Tensor) -> Tensor:
        features = self._lm.features(part.input_embeddings(self._lm, prompts), part.mask)
        own = part.rows.to(self._moments.device)
        return kl_from_moments(
            self._lm.logits(features), features, self._moments[own], self._offset[own], self._entropy[own]
        )

    def _groups_of(self, running: Tensor) -> list[PromptRows]:
        """Slots that go through the LM: those still running, but all of them on an accelerator.

        There the rounding depends on how many there are, and so a result would on when its neighbours stop.
        """
        if running.device.type != "cpu":
            return self._groups
        return [group.part(running[group.rows].nonzero().flatten()) for group in self._groups]
