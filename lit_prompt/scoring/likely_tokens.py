"""What an LM itself would write at each position of a prompt."""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.scoring.context import Context
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.part import Part
from lit_prompt.scoring.prompted_lm import PromptedLM
from lit_prompt.scoring.slots import Slots


class LikelyTokens:
    """The tokens that an LM holds most likely at each position of prompts, after what stands before it.

    Of a task with several contexts, in the first target's.

    Args:
        lm: the LM.
        slots: what is searched.
        length: positions of a prompt.
        micro_batch: how many prompts go through the LM at once.
    """

    def __init__(self, lm: FrozenLM, slots: Slots, length: int, micro_batch: MicroBatch) -> None:
        self._lm = lm
        self._slots = slots
        self._length = length
        self._micro_batch = micro_batch

    @cached_property
    def _contexts(self) -> list[Context]:
        return list(dict.fromkeys(members[0].context for members in self._slots.members))

    @cached_property
    def _of_task(self) -> Tensor:
        return torch.tensor([self._contexts.index(members[0].context) for members in self._slots.members])

    @cached_property
    def _prompted(self) -> PromptedLM:
        return PromptedLM(self._lm, self._contexts, self._length, self._micro_batch, whole=True)

    @torch.no_grad()
    def of(
        self, prompts: Int[Tensor, "prompt length"], slots: Int[Tensor, " prompt"], allowed: Tensor, k: int
    ) -> tuple[Int[Tensor, "prompt length k"], Float[Tensor, "prompt length k"]]:
        """The ``k`` likeliest of the ``allowed`` tokens (all where there are fewer), and their shares of the mass.

        Shares sum to 1 at each position; they are 0 where nothing stands before one. Both are on the CPU.
        """
        k = min(k, len(allowed))
        ids = torch.zeros(len(prompts), self._length, k, dtype=torch.long)
        shares = torch.zeros(len(prompts), self._length, k)

        def fill(part: Part) -> None:
            columns, known = part.predicting(self._length)
            device = part.features.device
            rows = torch.arange(len(columns)).unsqueeze(1).to(device)
            states = part.features[rows, columns.clamp_min(0).to(device)]
            logits = self._lm.logits(states.flatten(0, 1))
            best = logits[:, allowed.to(logits.device)].topk(k)
            found = best.values.float().softmax(-1)
            # both in one copy, as a device is waited for in each
            both = torch.cat([best.indices.int(), found.view(torch.int32)], 1).cpu().unflatten(0, columns.shape)
            ids[part.rows] = allowed[both[..., :k]]
            shares[part.rows] = both[..., k:].view(torch.float32).masked_fill(~known.unsqueeze(2), 0.0)

        which = torch.arange(len(prompts))
        contexts = self._of_task[self._slots.tasks[slots]]
        held = max(self._length, 2)  # a state after every position, also where there is one
        self._prompted.each(prompts, which, contexts, fill, held, self._prompted.most_rows(held))
        return ids, shares
