"""Certified floors of targets, solved once and kept in the run's folder."""

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.errors import InputError
from lit_prompt.files import replaced_whole
from lit_prompt.functional import OutputHead, kl_floor, kl_on_sphere
from lit_prompt.lm import FrozenLM, output_geometry

_log = logging.getLogger(__name__)

FILE = "floors.parquet"
#: Columns of ``floors.parquet``; KLs in nats. A row belongs to the LM and the distribution of its fingerprint.
SCHEMA = pa.schema(
    [
        ("target_id", pa.string()),
        ("family", pa.string()),
        ("entropy", pa.float64()),
        ("kl_floor", pa.float64()),  # certified lower bound
        ("kl_ball", pa.float64()),  # reached within the ball: the floor is at most this far from its best value
        ("kl_sphere", pa.float64()),  # least KL found on the sphere: what a soft prompt can reach
        ("lm_fingerprint", pa.string()),
        ("fingerprint", pa.string()),
    ]
)


class Floors:
    """Floor and sphere value of every target that is asked for.

    Args:
        lm: the LM.
        path: file in which they are kept; None to keep them in memory alone. What it holds for this LM is not solved
            again, for a target of the same distribution.
        tolerance: largest duality gap of a floor, nats.
    """

    def __init__(self, lm: FrozenLM, path: Path | None, tolerance: float = 1e-3) -> None:
        self._lm = lm
        self._path = path
        self._tolerance = tolerance
        self._known: dict[str, dict[str, Any]] = {}
        self._points: tuple[list[str], Tensor] = ([], torch.empty(0))
        if path is not None and path.is_file():
            for row in _read(path):
                if row["lm_fingerprint"] == lm.fingerprint and row["kl_ball"] - row["kl_floor"] <= self._widest:
                    self._known[row["fingerprint"]] = row

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

    def rows(self, batch: TargetBatch) -> list[dict[str, Any]]:
        """Floors of some targets: a dictionary with the keys of :data:`SCHEMA` each, empty where there is no floor."""
        if self.head is None:
            return [{}] * len(batch)
        keys = [_fingerprint(row) for row in batch.log_probs]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            self._solve(batch, keys, missing)
        about = zip(batch.target_id, batch.family, batch.entropy.tolist(), strict=True)
        # two targets may have one distribution
        return [
            self._known[key] | {"target_id": target_id, "family": family, "entropy": entropy}
            for key, (target_id, family, entropy) in zip(keys, about, strict=True)
        ]

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
        keys = [_fingerprint(row) for row in batch.log_probs]
        if self._points[0] != keys:
            self._solve(batch, keys, list(range(len(keys))))
        kl = torch.tensor([self._known[key]["kl_sphere"] for key in keys], dtype=torch.float64)
        return self._points[1], kl

    def _solve(self, batch: TargetBatch, keys: list[str], which: list[int]) -> None:
        assert self.head is not None
        terms = self.head.terms(batch.log_probs[which])
        floor = kl_floor(self.head, terms, self._tolerance)
        sphere = kl_on_sphere(self.head, terms, floor)
        self._points = ([keys[i] for i in which], sphere.point.float().cpu())
        found = zip(which, floor.lower.tolist(), floor.upper.tolist(), sphere.kl.tolist(), strict=True)
        for i, lower, upper, on_sphere in found:
            self._known[keys[i]] = {
                "target_id": batch.target_id[i],
                "family": batch.family[i],
                "entropy": float(batch.entropy[i]),
                "kl_floor": lower,
                "kl_ball": upper,
                "kl_sphere": on_sphere,
                "lm_fingerprint": self._lm.fingerprint,
                "fingerprint": keys[i],
            }
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replaced_whole(self._path) as staging:
                pq.write_table(pa.Table.from_pylist(list(self._known.values()), schema=SCHEMA), staging)


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of floors; none where it is no such file, as it can be made again."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return []
    return list(table.to_pylist()) if table.schema.names == SCHEMA.names else []


def _fingerprint(log_probs: Tensor) -> str:
    """SHA-256 over a distribution ``[vocab]``, 16 hexadecimal digits."""
    return hashlib.sha256(log_probs.contiguous().numpy().tobytes()).hexdigest()[:16]


def excess_columns(kl: list[float | None], floors: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """How far above their floors some KLs are, and what the norm and the prompt add to it.

    Args:
        kl: nats, None for a target that was not searched.
        floors: rows of :meth:`Floors.rows`.

    Returns:
        ``kl_floor`` (what the output head costs), ``excess``, ``excess_norm`` (the sphere's value less the floor: what
        it costs that the final norm cannot shrink a state) and ``excess_prompt`` (the KL less the sphere's value: what
        the prompt leaves); None where unknown.
    """

    def less(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    floor, sphere = ([row.get(name) for row in floors] for name in ("kl_floor", "kl_sphere"))
    return {
        "kl_floor": floor,
        "excess": [less(a, b) for a, b in zip(kl, floor, strict=True)],
        "excess_norm": [less(a, b) for a, b in zip(sphere, floor, strict=True)],
        "excess_prompt": [less(a, b) for a, b in zip(kl, sphere, strict=True)],
    }
