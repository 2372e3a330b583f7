"""Certified floors of targets, solved once for each LM and distribution."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.functional import OutputHead, kl_floor, kl_on_sphere
from lit_prompt.functional.row_loop import go_on_always
from lit_prompt.functional.sphere import SpherePoint
from lit_prompt.lm import FrozenLM, output_geometry
from lit_prompt.models.answer_floors import over_answers
from lit_prompt.models.floor_progress import TimeBudget, shown_progress
from lit_prompt.progress import phase
from lit_prompt.records.floors import FloorCache, KnownFloor

_log = logging.getLogger(__name__)

# targets that are solved at a time, or their probabilities where there may be more; an interruption loses them. Fewer
# would take longer: an evaluation of few costs as much as one of 16, and some need many
_TARGETS_TOGETHER = 64
_ELEMENTS_TOGETHER = 2**20
#: Name of the folder beside the runs' that holds the floors of all runs, a file for each LM.
FOLDER = "floors"


@dataclass(frozen=True)
class FloorOptions:
    """Which floors are solved, and how long that may take.

    Attributes:
        solve: whether floors that are not known are solved; those that a lift starts from are in any case.
        seconds: that solving all floors to be reported may take; None for no limit. What is certified by then holds,
            but is lower than it could be.
        tolerance: largest duality gap of a floor, nats.
    """

    solve: bool = True
    seconds: float | None = 600.0
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0:
            raise InputError(f"--floor_seconds is {self.seconds}; it must be 0 or more")
        if not 0 < self.tolerance < math.inf:
            raise InputError(f"--tolerance is {self.tolerance}; it must be above 0, and finite")


@runtime_checkable
class Distributions(Protocol):
    """Distributions over an LM's tokens, and what tells each from others."""

    log_probs: Tensor  #: ``[item, vocab]``

    @property
    def fingerprints(self) -> list[str]:
        """Of each."""


class Floors:
    """Floor and sphere value of every target that is asked for.

    Args:
        lm: the LM.
        folder: where they are kept, in a file for each LM; None to keep them in memory alone. What was solved for the
            same LM and the same distribution is not solved again.
        options: which are solved, and how well.
        write: whether those that are solved are added to the file.

    Attributes:
        source: what is named as the place that they come from.
    """

    def __init__(
        self, lm: FrozenLM, folder: Path | None, options: FloorOptions = FloorOptions(), write: bool = True
    ) -> None:
        self._lm = lm
        self._options = options
        self._budget = TimeBudget(options.seconds)
        path = None if folder is None else folder / f"{lm.fingerprint}.parquet"
        self.source = "floors" if path is None else str(path)
        self._cache = FloorCache(path, write)
        #: what this run has solved, cut or whole: all of it holds and is reported, what was cut is kept nowhere else
        self._found = FloorCache(None)
        #: of the targets that :meth:`sphere_points` was asked for last: whose, where, KL
        self._points: tuple[list[str], Tensor, Tensor] = ([], torch.empty(0), torch.empty(0))

    @property
    def _widest(self) -> float:
        """Gap of the floors that need no better ones; rounding can widen it beyond the tolerance."""
        slack = 0.0 if self._geometry[0] is None else self._geometry[0].slack
        return self._options.tolerance + slack + 1e-9

    @cached_property
    def _geometry(self) -> tuple[OutputHead | None, str | None]:
        try:
            with phase("measuring the LM's output head"):
                return output_geometry(self._lm), None
        except InputError as error:
            _log.warning("%s", error)
            return None, str(error)

    @property
    def head(self) -> OutputHead | None:
        """The LM's output geometry; None where it does not hold."""
        return self._geometry[0]

    @property
    def why_not(self) -> str | None:
        """Why there are no floors; None where there are."""
        return self._geometry[1]

    def of(self, batch: TargetBatch) -> list[KnownFloor | None]:
        """Floors of some targets, as good as the time allows; None where there is none."""
        return over_answers(batch, self.of_distributions)

    def known(self, batch: TargetBatch) -> list[KnownFloor | None]:
        """Floors of some targets that were solved before; None where there is none."""
        return over_answers(batch, self._known)

    def of_distributions(self, batch: Distributions) -> list[KnownFloor | None]:
        """As :meth:`of`, of distributions over the LM's tokens."""
        if self.head is None or not self._options.solve:
            return self._known(batch)
        keys = batch.fingerprints
        missing = [i for i, key in enumerate(keys) if not self._is_known(key)]
        if missing:
            with self._budget.spending() as go_on:
                together = max(_TARGETS_TOGETHER, _ELEMENTS_TOGETHER // self._lm.vocab_size)
                for start in range(0, len(missing), together):
                    self._solve(batch, keys, missing[start : start + together], go_on)
            if wide := sum(not self._is_known(keys[i]) for i in missing):
                seconds = self._options.seconds
                why = "had no more steps" if seconds is None else f"was stopped after {seconds:g} s (--floor_seconds)"
                _log.warning("floors: %d of %d are lower than they could be, as the solver %s", wide, len(keys), why)
        return [self._narrowest(key) for key in keys]

    def _known(self, batch: Distributions) -> list[KnownFloor | None]:
        nothing: list[KnownFloor | None] = [None] * len(batch.fingerprints)
        found = [self._cache.get(key) for key in batch.fingerprints]
        if found == nothing or self.head is None:  # the head is measured where it matters
            return nothing
        return [floor if self._is_known(key) else None for key, floor in zip(batch.fingerprints, found, strict=True)]

    def _is_known(self, key: str) -> bool:
        known = self._cache.get(key)
        return known is not None and known.gap <= self._widest

    def _narrowest(self, key: str) -> KnownFloor | None:
        found = [floor for cache in (self._cache, self._found) if (floor := cache.get(key)) is not None]
        return min(found, key=lambda floor: floor.gap, default=None)

    def hold_for(self, features: Tensor) -> Tensor:
        """Whether floors bound what an LM gives for features ``[item, feature]``: ``[item]``, bool, on CPU."""
        if self.head is None:
            return torch.zeros(len(features), dtype=torch.bool)
        return self.head.contains(features).cpu()

    def sphere_points(self, batch: TargetBatch) -> tuple[Tensor, Tensor]:
        """Where on the sphere some targets have their least KL: solved whatever options, clock and cache say.

        Args:
            batch: the targets.

        Returns:
            Normalised states ``[target, dim]``, float32, and their KLs in nats, ``[target]``, float64; on CPU.

        Raises:
            InputError: if the LM's geometry does not hold.
        """
        if self.why_not is not None:
            raise InputError(self.why_not)
        keys = batch.fingerprints
        if self._points[0] != keys:
            sphere = self._solve(batch, keys, list(range(len(keys))), go_on_always)
            self._points = (keys, sphere.point.float().cpu(), sphere.kl.cpu())
        return self._points[1:]

    def _solve(
        self, batch: Distributions, keys: list[str], which: list[int], go_on: Callable[[int], bool]
    ) -> SpherePoint:
        assert self.head is not None
        terms = self.head.terms(batch.log_probs[which])
        with shown_progress("floors", len(which), go_on) as watch:
            floor = kl_floor(self.head, terms, self._options.tolerance, go_on=watch)
        # what is kept of targets whose floors were found in time is whole
        in_time = bool((floor.upper - floor.lower <= self._widest).any())
        with shown_progress("floors: sphere", len(which), go_on_always if in_time else go_on) as watch:
            sphere = kl_on_sphere(self.head, terms, floor, go_on=watch)
        values = zip(floor.lower.tolist(), floor.upper.tolist(), sphere.kl.tolist(), strict=True)
        found = {keys[i]: KnownFloor(*value) for i, value in zip(which, values, strict=True)}
        self._found.put(found)
        if in_time:
            self._cache.put({key: known for key, known in found.items() if known.gap <= self._widest})
        return sphere


def excess_columns(
    kl: list[float | None], floors: list[KnownFloor | None], bounded: list[bool]
) -> dict[str, list[float | None]]:
    """How far above their floors some KLs are, and what the norm and the prompt add to it.

    Args:
        kl: nats, None for a target that was not searched.
        floors: of :meth:`Floors.of`.
        bounded: whether they hold for the prompts (:meth:`Floors.hold_for`).

    Returns:
        ``kl_floor`` (what the output head costs), ``excess``, ``excess_norm`` (the sphere's value less the floor: what
        it costs that the final norm cannot shrink a state) and ``excess_prompt`` (the KL less the sphere's value: what
        the prompt leaves); None where unknown.
    """

    def less(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    lost = [None not in (value, known) and not holds for value, known, holds in zip(kl, floors, bounded, strict=True)]
    if any(lost):
        _log.warning(
            "no floor holds for %d of %d prompts: their last hidden states are so far from zero that the arithmetic of "
            "the LM's final norm fails",
            sum(lost),
            len(lost),
        )
    floors = [None if is_lost else known for known, is_lost in zip(floors, lost, strict=True)]
    floor = [None if known is None else known.kl_floor for known in floors]
    sphere = [None if known is None else known.kl_sphere for known in floors]
    return {
        "kl_floor": floor,
        "excess": [less(a, b) for a, b in zip(kl, floor, strict=True)],
        "excess_norm": [less(a, b) for a, b in zip(sphere, floor, strict=True)],
        "excess_prompt": [less(a, b) for a, b in zip(kl, sphere, strict=True)],
    }
