"""What modules have in common whose prompts a searcher finds that a callback drives."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from lit_prompt.callbacks.token_search import TokenSearch
from lit_prompt.data import TargetBatch
from lit_prompt.models.base import PromptModule
from lit_prompt.models.chunk import step_made
from lit_prompt.objectives import Objective
from lit_prompt.search import BestSoFar, ChunkSearch

if TYPE_CHECKING:
    from lit_prompt.models.mixture_search import MixtureSearch


class DrivenPrompt(PromptModule):
    """Prompts that are texts, found by a searcher; a chunk of targets is searched at a time.

    The module has no parameters: a callback, :class:`lit_prompt.callbacks.TokenSearch`, drives the searcher, a step a
    batch.
    """

    searcher: Any

    def __init__(
        self, before: str, after: str, seed: int, objective: Objective, temperature: float, components: int = 1
    ) -> None:
        super().__init__(before, after, seed, objective, temperature, components)
        self._search = TokenSearch()

    @property
    def method(self) -> str:  # type: ignore[override]
        """Name of the algorithm."""
        return str(self.searcher.method)

    @property
    def prompt_room(self) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a prompt."""
        return (self.length,), torch.long

    def configure_callbacks(self) -> list[L.Callback]:
        """What drives the search."""
        return [self._search]

    def configure_optimizers(self) -> None:
        """None: there is nothing to optimise."""

    def under_search(self) -> tuple[list[int], BestSoFar] | None:
        """Numbers of the tasks of the chunk under search, and the bests of its slots; None before the first."""
        return self._search.current

    @abstractmethod
    def new_search(
        self, batch: TargetBatch
    ) -> "tuple[ChunkSearch | MixtureSearch, Callable[[], tuple[Tensor, Tensor]]]":
        """The search of a chunk, not yet begun, and what finds its starts."""

    def on_train_batch_start(self, batch: TargetBatch, batch_idx: int) -> int | None:
        """Ends a chunk (-1) when no search in it goes on."""
        return None if self._search.stepped else -1

    def training_step(self, batch: TargetBatch, batch_idx: int) -> None:
        """Counts the step that the callback has made."""
        self.optimizers().step()  # type: ignore[union-attr]
        step_made(self)

    def best_texts(self) -> tuple[list[float], list[str]]:
        """Score in nats and text of the best prompt so far of each task of the chunk; no text where there is none."""
        current = self.under_search()
        assert current is not None
        index, best = current
        score, restart = best.kl.unflatten(0, (len(index), self.restarts)).min(1)
        texts = self.texts_so_far(best, index, torch.arange(len(index)) * self.restarts + restart)
        return score.tolist(), [text if s < float("inf") else "" for text, s in zip(texts, score, strict=True)]

    def texts_so_far(self, best: BestSoFar, tasks: Sequence[int], slots: Tensor) -> list[str]:
        """The texts that some tasks' slots have come to, ``[task]`` both."""
        return self.prompt_texts(tasks, best.prompts[slots].tolist())

    @abstractmethod
    def prompt_texts(self, tasks: Sequence[int], prompts: Sequence[Sequence[int]]) -> list[str]:
        """The texts of some tasks' prompts, given by the tasks' numbers and the prompts' own."""

    def chunk_state(self) -> dict[str, Any]:
        """All that the search carries from step to step."""
        return self._search.chunk_state()

    def take_up(self, state: dict[str, Any]) -> None:
        """Goes on as it was when :meth:`chunk_state` was kept."""
