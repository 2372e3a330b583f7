"""What the runs of an LM leave for one another."""

from dataclasses import dataclass

import lightning as L

from lit_prompt.data.run_folder import adds_beside_runs, beside_runs
from lit_prompt.lm import FrozenLM, LMCache
from lit_prompt.models.floors import FOLDER, FloorOptions, Floors


@dataclass(frozen=True)
class KnownOptions:
    """What is asked of earlier runs, and left to later ones.

    Attributes:
        floors: which are solved.
        cache: whether what the LM gives is kept.
    """

    floors: FloorOptions = FloorOptions()
    cache: bool = True


class Known:
    """What earlier runs know of an LM, in folders beside theirs; a validation adds nothing to them.

    Args:
        lm: the LM.
        trainer: of the run, its checkpoint known.
        options: what is asked of them.

    Attributes:
        floors: of targets.
        cache: what the LM gives whatever the targets.
    """

    def __init__(self, lm: FrozenLM, trainer: L.Trainer, options: KnownOptions) -> None:
        adds = adds_beside_runs(trainer)
        self.floors = Floors(lm, beside_runs(trainer, FOLDER), options.floors, adds)
        self.cache = LMCache(lm, beside_runs(trainer, "cache") if options.cache else None, adds)
