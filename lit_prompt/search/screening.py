"""Whether candidates are ranked in half precision."""

import logging
from collections.abc import Callable
from typing import Literal

from lit_prompt.errors import InputError
from lit_prompt.lm import WORTH_HALF, FrozenLM, computes_in_half, half_copy, speed_in_half

_log = logging.getLogger(__name__)

# positions that go through it at once where what a candidate gives must not depend on the others
_POSITIONS_AT_ONCE = 512


class Screening:
    """Whether candidates are ranked by a copy of the LM in bfloat16.

    Args:
        wanted: ``always``, ``never``, or ``auto``: where the processor computes in bfloat16, and prompts go through the
            copy faster, which is measured when it is first asked for.
        fixed_shapes: whether what is found for a slot must not depend on the others.

    Attributes:
        agreed: is given what was measured, or None, and gives what holds for the run, whoever has measured it.
    """

    def __init__(self, wanted: Literal["auto", "always", "never"], fixed_shapes: bool) -> None:
        if wanted not in ("auto", "always", "never"):
            raise InputError(f"model.screening is {wanted}; it must be auto, always or never")
        self.agreed: Callable[[int | None], int | None] = lambda measured: measured
        self._wanted = wanted
        self._fixed_shapes = fixed_shapes
        self._half: FrozenLM | None = None
        self._is_faster: int | None = None

    def half(self, lm: FrozenLM, length: int) -> FrozenLM | None:
        """The copy that ranks prompts of ``length`` tokens, made when it is first asked for; None where none does."""
        if self._wanted == "never":
            return None
        if self._wanted == "auto":
            known = self.agreed(None)
            self._is_faster = self._is_faster if known is None else known
            if self._is_faster == 0 or not computes_in_half(lm.device):
                self.release()
                return None
        if self._half is None:
            self._half = half_copy(lm, _POSITIONS_AT_ONCE if self._fixed_shapes and lm.device.type == "cpu" else None)
            if self._half is None and self._wanted == "always":
                _log.warning("model.screening: this LM has no copy in bfloat16; its candidates are not screened")
        if self._half is not None and self._wanted == "auto" and self._is_faster is None:
            speed = speed_in_half(lm, self._half, length)
            if speed >= WORTH_HALF:
                _log.warning("prompts are ranked in bfloat16, %.1f times as fast here (model.screening)", speed)
            self._is_faster = self.agreed(speed >= WORTH_HALF)
            if not self._is_faster:
                self.release()
        return self._half

    def release(self) -> None:
        """Drops the copy."""
        self._half = None
