"""The rounds of a search for mixtures of soft prompts, one for each component."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.models.mixtures import Mixtures, NextComponent
from lit_prompt.search import BestSoFar
from lit_prompt.search.best_mixtures import BestMixtures

if TYPE_CHECKING:
    from lit_prompt.models.soft import SoftPrompt


class SoftRounds:
    """Which component of a chunk's mixtures is searched, and the mixtures so far.

    At a round's end the best prompt of each slot comes in, if it helps, and all weights are made optimal.

    Args:
        module: has the settings.
        batch: the targets.
        prompts: room for those of a round, ``[slot, ...]``, more than there are slots as the case may be.

    Attributes:
        best: the mixtures, on the CPU.
        number: of the round.
        between: whether the round has not begun.
    """

    def __init__(self, module: "SoftPrompt", batch: TargetBatch, prompts: Tensor) -> None:
        self._module = module
        self._slots = len(batch.tasks) * module.restarts
        self.best = BestMixtures(
            prompts.detach().cpu(), module.components, module.kl_tolerance, module.patience, None, None
        )
        self.best.reset(self._slots)
        self._mixtures = Mixtures(module, batch, self.best)
        self.number = 0
        self.between = True

    def next_component(self) -> NextComponent | None:
        """What the present component is searched by; None for the first, which is by itself."""
        return self._mixtures.next_component(self.number) if self.number else None

    def follow(self, best: BestSoFar, made: int) -> None:
        """Takes in the bests of the round after a step, of so many of all rounds; the last one of a round ends it."""
        self.best.follow(self.number, best)
        if made < self._module.round_ends(self.number):
            return
        for slot in self.best.running[: self._slots].nonzero().flatten().tolist():
            if bool(best.kl[slot].isfinite()):
                self._mixtures.add(slot, best.prompts[slot : slot + 1].cpu(), self.number + 1)
        self.best.end_round(self.number, best)
        self.number += 1
        self.between = True

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume."""
        return {"number": self.number, "between": self.between, "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from :meth:`state_dict`."""
        self.number, self.between = state["number"], state["between"]
        self.best.load_state_dict(state["best"])
