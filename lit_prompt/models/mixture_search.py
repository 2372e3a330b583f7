"""The search for mixtures of hard prompts: a round for each component."""

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.interruption import interruptible
from lit_prompt.models.chunk import chunk_scorer
from lit_prompt.models.mixtures import Mixtures
from lit_prompt.search import ChunkSearch, TokenProblem
from lit_prompt.search.best_mixtures import BestMixtures
from lit_prompt.search.kept_candidates import KeptCandidates

if TYPE_CHECKING:
    from lit_prompt.models.hard import HardPrompt

#: Of a round's prompts so many are compared by the weight that each would have.
COMPARED = 16


class MixtureSearch:
    """Drives the searches for the components of a chunk's mixtures, one round after another.

    The first round is the search for single prompts. A later one searches by what a prompt does for the mixture so far,
    which stays as it is in the round, from the best of a small bank by that measure. At a round's end the best
    few of all prompts that were scored in it are read again and compared: one is added, and all weights are made best.

    Args:
        module: has the settings.
        batch: the targets.
    """

    def __init__(self, module: "HardPrompt", batch: TargetBatch) -> None:
        self._module = module
        self._batch = batch
        nothing = torch.zeros(len(batch.tasks) * module.restarts, module.length, dtype=torch.long)
        self.best = BestMixtures(
            nothing, module.components, module.kl_tolerance, module.patience, module.max_forward_passes,
            module.max_seconds,
        )  # fmt: skip
        self._mixtures = Mixtures(module, batch, self.best)
        self._nothing = nothing
        self._round = 0
        self._steps = 0
        self._search: ChunkSearch | None
        self._search, self._problem = self._begun()

    def _begun(self) -> tuple[ChunkSearch, TokenProblem]:
        """The search of the present round, which has not begun."""
        module, batch = self._module, self._batch
        best = self.best.of_round(self._round, self._nothing)
        if self._round == 0:
            problem = module.token_problem(lambda lm: chunk_scorer(module, batch, lm), batch.log_probs)
        else:
            wanted = self._mixtures.next_component(self._round)
            best.forward_passes += wanted.passes
            problem = module.token_problem(wanted.scorer, wanted.log_probs, self._round)
        problem.readable.kept = KeptCandidates(len(problem), COMPARED, problem.length)
        return ChunkSearch(module.searcher, problem, best), problem

    def starts(self) -> tuple[Tensor, Tensor]:
        """Where the present round starts, with the scores in nats, as of :meth:`HardPrompt.starts`."""
        return self._module.starts(self._problem, self._round)

    def init(self, ids: Tensor, scores: Tensor, seconds: float) -> None:
        """As of :meth:`ChunkSearch.init`."""
        assert self._search is not None
        self._search.init(ids, scores, seconds)
        self.best.follow(self._round, self._search.best)

    def step(self) -> None:
        """A step of all searches of the round that still run; the last one of a round ends it."""
        if self._search is None:
            self._begin_round()
        assert self._search is not None
        if bool(self._search.best.running.any()):
            self._search.step()
        self._steps += 1
        self.best.follow(self._round, self._search.best)
        if self._steps == self._module.round_ends(self._round):
            self._end_round(self._search)

    def _begin_round(self) -> None:
        started = time.perf_counter()
        with interruptible():
            search, self._problem = self._begun()
            search.init(*self.starts(), time.perf_counter() - started)
        self._search = search

    def _end_round(self, search: ChunkSearch) -> None:
        started = time.perf_counter()
        took_part = self.best.running.clone()
        kept = self._problem.readable.kept
        assert kept is not None
        slots = torch.arange(len(self._problem))
        kept.take(search.best.prompts.unsqueeze(1), search.best.kl.unsqueeze(1), slots)
        places = self._problem.readable.first(kept.ids, kept.scores, slots, COMPARED)
        for slot in took_part.nonzero().flatten().tolist():
            candidates = kept.ids[slot, places[slot][places[slot] >= 0]]
            if len(candidates):
                self._mixtures.add(slot, candidates, self._round + 1)
        self.best.end_round(self._round, search.best)
        self.best.spend(took_part, time.perf_counter() - started)
        search.release()
        self._search = None
        self._round += 1

    def release(self) -> None:
        """Drops what only more steps would need."""
        if self._search is not None:
            self._search.release()

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume."""
        search = None
        if self._search is not None:
            kept = self._problem.readable.kept
            assert kept is not None
            search = {"of_round": self._search.state_dict(), "kept": kept.state_dict()}
        return {"round": self._round, "steps": self._steps, "best": self.best.state_dict(), "search": search}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from :meth:`state_dict`."""
        self._round, self._steps = state["round"], state["steps"]
        self.best.load_state_dict(state["best"])
        self._search = None
        if state["search"] is not None:
            self._search, self._problem = self._begun()
            self._search.load_state_dict(state["search"]["of_round"])
            kept = self._problem.readable.kept
            assert kept is not None
            kept.load_state_dict(state["search"]["kept"])
