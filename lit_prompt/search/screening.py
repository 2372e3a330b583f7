"""Whether candidates are ranked in half precision."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Literal

from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, computes_in_half, half_copy

_log = logging.getLogger(__name__)

# ranking in half precision is worth its copy of the LM where it takes at most this share of the time
_WORTH = 0.8
# positions that go through it at once where what a candidate gives must not depend on the others
_POSITIONS_AT_ONCE = 512


class Screening:
    """Whether candidates are ranked by a copy of the LM in bfloat16.

    Args:
        wanted: ``always``, ``never``, or ``auto``: where the processor computes in bfloat16, and a step made both ways
            is faster so. The first step of each chunk is exact then, as somewhere it is the one that is measured.
        fixed_shapes: whether what is found for a slot must not depend on the others.

    Attributes:
        on: whether they are; None in a step that may be measured. A chunk that is gone on with is given what was.
        agreed: is given what was measured, or None, and gives what holds for the run, whoever has measured it.
    """

    def __init__(self, wanted: Literal["auto", "always", "never"], fixed_shapes: bool) -> None:
        if wanted not in ("auto", "always", "never"):
            raise InputError(f"model.screening is {wanted}; it must be auto, always or never")
        self.on: bool | None = {"auto": None, "always": True, "never": False}[wanted]
        self.agreed: Callable[[bool | None], bool | None] = lambda measured: measured
        self._is_auto = wanted == "auto"
        self._fixed_shapes = fixed_shapes
        self._half: FrozenLM | None = None
        self._measured: bool | None = None

    def half(self, lm: FrozenLM) -> FrozenLM | None:
        """The copy that ranks in a chunk, made when it is first asked for; None where nothing is ranked by one."""
        if self._is_auto:
            known = self.agreed(None)
            self._measured = self._measured if known is None else known
            self.on = False if self._measured is False else None
        if self.on is None and not computes_in_half(lm.device):
            self.on = False
        if self.on is not False and self._half is None:
            self._half = half_copy(lm, _POSITIONS_AT_ONCE if self._fixed_shapes and lm.device.type == "cpu" else None)
            if self._half is None:
                if self.on:
                    _log.warning("model.screening: this LM has no copy in bfloat16; its candidates are not screened")
                self.on = False
        return self._half

    def measure(self, exact: Callable[[], Tensor], screened: Callable[[], object]) -> Tensor:
        """Exact scores of candidates; those of a first call are made both ways, so that :meth:`settle` can choose."""
        if self._measured is not None:
            return exact()
        screened()  # kernels are prepared in a first pass
        started = perf_counter()
        screened()
        middle = perf_counter()
        found = exact()
        half, full = middle - started, perf_counter() - middle
        self._measured = half <= _WORTH * full
        if self._measured:
            _log.warning("candidates are ranked in bfloat16, %.1f times as fast here (model.screening)", full / half)
        return found

    def settle(self) -> None:
        """Ends a step: what was measured in it holds from now on."""
        if self.on is None and self._measured is not None:
            self.on = self._measured = self.agreed(self._measured)
        if self.on is False:
            self.release()

    def release(self) -> None:
        """Drops the copy."""
        self._half = None
