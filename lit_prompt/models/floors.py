"""Certified floors of targets, solved once for each LM and distribution."""

import logging
from functools import cached_property
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.data.run_folder import run_folder
from lit_prompt.errors import InputError
from lit_prompt.functional import OutputHead, kl_floor, kl_on_sphere
from lit_prompt.lm import FrozenLM, output_geometry
from lit_prompt.records.floors import FloorCache, KnownFloor

_log = logging.getLogger(__name__)

#: Name of the folder beside the runs' that holds the floors of all runs, a file for each LM.
FOLDER = "floors"


def floors_folder(trainer: L.Trainer) -> Path | None:
    """Where all runs beside a trainer's keep their floors; None for a run that keeps nothing."""
    run = run_folder(trainer)
    return None if run is None else run.absolute().parents[1] / FOLDER


class Floors:
    """Floor and sphere value of every target that is asked for.

    Args:
        lm: the LM.
        folder: where they are kept, in a file for each LM; None to keep them in memory alone. What was solved for the
            same LM and the same distribution is not solved again.
        tolerance: largest duality gap of a floor, nats.
    """

    def __init__(self, lm: FrozenLM, folder: Path | None, tolerance: float = 1e-3) -> None:
        self._lm = lm
        self._tolerance = tolerance
        self._cache = FloorCache(None if folder is None else folder / f"{lm.fingerprint}.parquet")
        self._points: tuple[list[str], Tensor] = ([], torch.empty(0))

    @property
    def _widest(self) -> float:
        """Gap of the floors that need no better ones; rounding can widen it beyond the tolerance."""
        slack = 0.0 if self._geometry[0] is None else self._geometry[0].slack
        return self._tolerance + slack + 1e-9

    @cached_property
    def _geometry(self) -> tuple[OutputHead | None, str | None]:
        try:
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
        """Floors of some targets; None where there is none."""
        if self.head is None:
            return [None] * len(batch)
        keys = batch.fingerprints
        missing = [i for i, key in enumerate(keys) if not self._is_known(key)]
        if missing:
            self._solve(batch, keys, missing)
        return [self._cache.get(key) for key in keys]

    def _is_known(self, key: str) -> bool:
        known = self._cache.get(key)
        return known is not None and known.gap <= self._widest

    def hold_for(self, features: Tensor) -> Tensor:
        """Whether floors bound what an LM gives for features ``[item, feature]``: ``[item]``, bool, on CPU."""
        if self.head is None:
            return torch.zeros(len(features), dtype=torch.bool)
        return self.head.contains(features).cpu()

    def sphere_points(self, batch: TargetBatch) -> tuple[Tensor, Tensor]:
        """Where on the sphere some targets have their least KL.

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
            self._solve(batch, keys, list(range(len(keys))))
        known = [self._cache.get(key) for key in keys]
        return self._points[1], torch.tensor([floor.kl_sphere for floor in known if floor], dtype=torch.float64)

    def _solve(self, batch: TargetBatch, keys: list[str], which: list[int]) -> None:
        assert self.head is not None
        terms = self.head.terms(batch.log_probs[which])
        floor = kl_floor(self.head, terms, self._tolerance)
        sphere = kl_on_sphere(self.head, terms, floor)
        self._points = ([keys[i] for i in which], sphere.point.float().cpu())
        values = zip(floor.lower.tolist(), floor.upper.tolist(), sphere.kl.tolist(), strict=True)
        self._cache.put({keys[i]: KnownFloor(*value) for i, value in zip(which, values, strict=True)})


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
