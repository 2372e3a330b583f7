"""Early steps of a soft search, whose gradients come from a copy of the LM in half precision."""

import logging

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, half_copy
from lit_prompt.models.base import PromptModule
from lit_prompt.models.chunk import chunk_scorer
from lit_prompt.scoring import LMScorer

_log = logging.getLogger(__name__)

# so often a step is exact all the same: there the best so far is looked for, and a search may end
_EXACT_EVERY = 10
# positions that go through the copy at once, where what a prompt gives must not depend on the others: a bfloat16
# product of so many rows is nearly as fast for each as one of thousands (AVX512-BF16)
_POSITIONS_AT_ONCE = 128


class HalfSteps:
    """Which steps of a soft search are made in half precision, and by what.

    A gradient in bfloat16 costs less than half of one in float32 on processors that compute in it, and far from a
    minimum it points the same way. Only scores of the LM itself are shown, compared or kept; every tenth step is exact.

    Args:
        count: of the early steps, those that are exact among them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._half: FrozenLM | None = None
        self._scorer: LMScorer | None = None

    def check(self, module: PromptModule, patience: int | None) -> None:
        """Raises InputError where a search cannot be made so."""
        if self._count < 0:
            raise InputError(f"model.half_steps is {self._count}; it must be 0 or more")
        if self._count == 0:
            return
        if self._count >= module.steps:
            raise InputError(
                f"model.half_steps is {self._count} of {module.steps} steps; leave some for the LM's own precision"
            )
        if module.components > 1:
            raise InputError("model.half_steps is for single prompts: set it to 0, or model.components to 1")
        if patience is not None and patience < _EXACT_EVERY:
            raise InputError(
                f"model.patience is {patience}, but of model.half_steps only one in {_EXACT_EVERY} tells a KL: set it "
                f"to {_EXACT_EVERY} or more, or model.half_steps to 0"
            )

    def begin(self, module: PromptModule, batch: TargetBatch, made: int) -> None:
        """Begins a chunk, or goes on with it after so many steps."""
        self._scorer = None
        if made >= self._count:
            return
        lm = module.lm
        if self._half is None:
            self._half = half_copy(lm, _POSITIONS_AT_ONCE if lm.device.type == "cpu" else None)
            if self._half is None:
                _log.warning("model.half_steps: this LM has no copy in bfloat16; all steps are exact")
                self._count = 0
        if self._half is not None:
            self._scorer = chunk_scorer(module, batch, self._half)

    def scorer(self, made: int) -> LMScorer | None:
        """What gives the gradient of the step after so many; None where it is the LM itself."""
        return None if made >= self._count or made % _EXACT_EVERY == 0 else self._scorer

    def release(self) -> None:
        """Drops the copy."""
        self._half = self._scorer = None
