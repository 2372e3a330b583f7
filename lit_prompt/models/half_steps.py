"""Early steps of a soft search, whose gradients come from a copy of the LM in half precision."""

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.lm import WORTH_HALF, FrozenLM, computes_in_half, half_copy, speed_in_half
from lit_prompt.models.chunk import chunk_scorer
from lit_prompt.scoring import LMScorer
from lit_prompt.search import BestSoFar

if TYPE_CHECKING:
    from lit_prompt.models.soft import SoftPrompt

_log = logging.getLogger(__name__)

# so often a step is exact all the same: there the best so far is looked for, and a search may end
_EXACT_EVERY = 10
# nats: below, what bfloat16 rounds away is no longer small beside what is left, and all steps are exact
_NEAR = 0.1
# positions that go through the copy at once, where what a prompt gives must not depend on the others: a bfloat16
# product of so many rows is nearly as fast for each as one of thousands (AVX512-BF16)
_POSITIONS_AT_ONCE = 128
# where nothing is said, this share of the steps is made so on LMs of so many weights and more; smaller LMs are searched
# in seconds, and give the same on every machine
_SHARE, _LARGE = 0.75, 50_000_000
# fewer steps than these are not worth the copy
_FEW = 40


class HalfSteps:
    """Which steps of a soft search are made in half precision, and by what.

    A gradient in bfloat16 costs less than half of one in float32 on processors that compute in it, and far from a
    minimum it points the same way. Only scores of the LM itself are shown, compared or kept; every tenth step is exact,
    and so are all of a search that has come close to its target.

    Args:
        count: of the early steps, those that are exact among them; None for three quarters of all where that pays,
            which is found out when a run begins, and kept in it.
    """

    def __init__(self, count: int | None) -> None:
        self.wanted = self._count = count
        self._half: FrozenLM | None = None
        self._scorer: LMScorer | None = None

    def check(self, module: "SoftPrompt") -> None:
        """Raises InputError where a search cannot be made so."""
        if not self.wanted:
            return
        if self.wanted < 0:
            raise InputError(f"model.half_steps is {self.wanted}; it must be 0 or more")
        if self.wanted >= module.steps:
            raise InputError(
                f"model.half_steps is {self.wanted} of {module.steps} steps; leave some for the LM's own precision"
            )
        if module.components > 1:
            raise InputError("model.half_steps is for single prompts: set it to 0, or model.components to 1")
        if module.patience is not None and module.patience < _EXACT_EVERY:
            raise InputError(
                f"model.patience is {module.patience}, but of model.half_steps only one in {_EXACT_EVERY} tells a KL: "
                f"set it to {_EXACT_EVERY} or more, or model.half_steps to 0"
            )

    def begin(self, module: "SoftPrompt", batch: TargetBatch, made: int) -> None:
        """Begins a chunk, or goes on with it after so many steps."""
        self._scorer = None
        if self._count is None:
            self._count = self._agreed(module)
        if made >= self._count:
            return
        if self._half is None:
            self._half = _copy(module.lm)
            if self._half is None:
                _log.warning("model.half_steps: this LM has no copy in bfloat16; all steps are exact")
                self._count = 0
        if self._half is not None:
            self._scorer = chunk_scorer(module, batch, self._half)

    def _agreed(self, module: "SoftPrompt") -> int:
        """How many steps of a run are made so where nothing is said: what its first process has found out."""
        if module.lm.model.num_parameters() < _LARGE or not _suits(module):
            return 0
        if (known := module.chunks.agreed("half_steps", None)) is not None:
            return known
        return module.chunks.agreed("half_steps", self._suggested(module)) or 0

    def _suggested(self, module: "SoftPrompt") -> int:
        """What this process finds out."""
        lm, steps = module.lm, module.steps
        half = _copy(lm) if computes_in_half(lm.device) else None
        speed = 0.0 if half is None else speed_in_half(lm, half, module.length)
        if speed < WORTH_HALF:
            return 0
        self._half, count = half, int(_SHARE * steps)
        _log.warning(
            "gradients of the first %d steps are in bfloat16, %.1f times as fast here (model.half_steps)", count, speed
        )
        return count

    def parts(self, made: int, best: BestSoFar, exact: LMScorer) -> list[tuple[LMScorer, Tensor]]:
        """What gives the gradients of the step after so many, and of which of the searches that go on, ``[slot]``."""
        if self._scorer is None or made >= (self._count or 0) or made % _EXACT_EVERY == 0:
            return [(exact, best.running)]
        far = best.running & (best.kl > _NEAR)
        both = [(self._scorer, far), (exact, best.running & ~far)]
        some = torch.stack([slots.any() for _, slots in both]).tolist()
        return [part for part, any_slot in zip(both, some, strict=True) if any_slot]

    def release(self) -> None:
        """Drops the copy."""
        self._half = self._scorer = None


def _suits(module: "SoftPrompt") -> bool:
    """Whether a search begins far from a minimum, and an exact step in ten is enough for it."""
    seldom = module.patience is None or module.patience >= _EXACT_EVERY
    far = module.init.kind != "lift" and module.components == 1
    return seldom and far and module.steps >= _FEW and not isinstance(module.trainer.optimizers[0], torch.optim.LBFGS)


def _copy(lm: FrozenLM) -> FrozenLM | None:
    return half_copy(lm, _POSITIONS_AT_ONCE if lm.device.type == "cpu" else None)
