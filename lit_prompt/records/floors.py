"""Certified floors: what ``lit_prompt floor`` writes, and those that some run has solved, for all with the same LM."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from lit_prompt import __version__
from lit_prompt.errors import InputError
from lit_prompt.records.checksum import CHECKSUM
from lit_prompt.records.table_format import NUMBER, TEXT, TableFormat
from lit_prompt.under_way import sweep

_log = logging.getLogger(__name__)

_ABOUT = [("target_id", TEXT), ("family", TEXT), ("entropy", NUMBER)]
_KNOWN = [("kl_floor", NUMBER), ("kl_ball", NUMBER), ("kl_sphere", NUMBER)]
#: ``floors.parquet``, one row per target; KLs in nats, as in :class:`KnownFloor`.
FLOORS = TableFormat(pa.schema([*_ABOUT, *_KNOWN, ("lm", TEXT), ("lm_fingerprint", TEXT)]))
# another version may solve otherwise
_SCHEMA = pa.schema([("fingerprint", TEXT), *_KNOWN], {"lit_prompt": __version__})
_CACHE = TableFormat(_SCHEMA, filled=tuple(_SCHEMA.names), advice="none of its floors is used")
#: nats; as much lower may rounding make a KL, or a value that a solver found, than a floor, which is lowered by more
#: than what the LM's own arithmetic does: so that a KL at its floor, a lift's say, is none below it
_ROUNDING = 1e-6


@dataclass(frozen=True)
class KnownFloor:
    """What is known of a distribution, nats."""

    kl_floor: float  #: certified lower bound
    kl_ball: float  #: reached within the ball; the best lower bound lies between ``kl_floor`` and this
    kl_sphere: float  #: least KL found on the sphere: what a soft prompt can reach

    @property
    def gap(self) -> float:
        """How far the floor can be below the best bound."""
        return self.kl_ball - self.kl_floor

    @property
    def is_sound(self) -> bool:
        """Whether the values can be those of a distribution: finite, and the floor between zero and what was found."""
        found = min(self.kl_ball, self.kl_sphere)
        return all(map(math.isfinite, vars(self).values())) and 0.0 <= self.kl_floor <= found + _ROUNDING


def refuse_impossible_floors(rows: Iterable[Mapping[str, Any]], where: str, advice: str) -> None:
    """Refuses floors above the KL that a prompt has reached: a certified floor excludes those.

    Args:
        rows: target_id, kl and kl_floor (nats; None where unknown) of targets; of mixtures kl_single, too.
        where: the floors are from.
        advice: what the user can do.

    Raises:
        InputError: if there is one.
    """
    for row in rows:
        kl, floor = row["kl"], row["kl_floor"]
        if row.get("kl_single") is not None:  # the floor is of single prompts, and mixtures may be below it
            kl = row["kl_single"]
        if kl is not None and floor is not None and kl < floor - _ROUNDING:
            raise InputError(
                f"{where}: the floor of {row['target_id']}, {floor:.6f} nats, is above the KL that a prompt has "
                f"reached, {kl:.6f}, so that it is none; {advice}"
            )


class FloorCache:
    """Known floors by the fingerprints of their distributions, in memory and in a file (None for memory alone).

    Other processes may read and write the file, too; without ``write`` nothing is added to it.
    """

    def __init__(self, path: Path | None, write: bool = True) -> None:
        self._path = path if write else None
        if self._path is not None:
            sweep(self._path.parent)
        self._known = {} if path is None else _read(path)

    def get(self, fingerprint: str) -> KnownFloor | None:
        """The floor of a distribution."""
        return self._known.get(fingerprint)

    def put(self, found: dict[str, KnownFloor]) -> None:
        """Keeps floors, along with those that other processes have written meanwhile; the narrower gap stays."""
        self._known = _narrower(self._known, found)
        if self._path is None:
            return
        self._known = _narrower(self._known, _read(self._path))
        rows = [{"fingerprint": key, **vars(floor)} for key, floor in self._known.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _CACHE.write(_CACHE.table(rows), self._path)
        except (OSError, InputError) as error:  # no reason to stop a search
            why = error.strerror if isinstance(error, OSError) else error
            _log.warning("floors are not kept: %s cannot be written (%s)", self._path, why)
            self._path = None


def _narrower(known: dict[str, KnownFloor], found: dict[str, KnownFloor]) -> dict[str, KnownFloor]:
    return known | {key: floor for key, floor in found.items() if key not in known or floor.gap < known[key].gap}


def _read(path: Path) -> dict[str, KnownFloor]:
    """Floors of a file; none where it is no sound one or another version's, as it can be made again."""
    if not path.exists():
        return {}
    try:
        table = _CACHE.read(path)
        metadata = table.schema.metadata
        if metadata.get(b"lit_prompt") != __version__.encode() or CHECKSUM.encode() not in metadata:
            return {}
        found = {row.pop("fingerprint"): KnownFloor(**row) for row in table.to_pylist()}
        if not all(floor.is_sound for floor in found.values()):
            raise InputError(f"{path}: holds floors that cannot be")
    except InputError as error:
        _log.warning("%s; floors are solved again", error)
        return {}
    return found
