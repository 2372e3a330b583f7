"""The search of a chunk of targets for texts."""

from typing import Any

import torch
from torch import Tensor

from lit_prompt.search.best_so_far import BestSoFar
from lit_prompt.search.chunk_search import ChunkSearch
from lit_prompt.search.searcher import Found
from lit_prompt.search.text_problem import TextProblem
from lit_prompt.search.text_search import TextSearch


class TextChunkSearch(ChunkSearch):
    """Drives a searcher of texts, which begins with several for each slot."""

    def __init__(self, searcher: TextSearch, problem: TextProblem, best: BestSoFar) -> None:
        driven: Any = searcher  # of texts: it is asked for the same, and its problem is
        asked: Any = problem
        super().__init__(driven, asked, best)

    def init(self, ids: Tensor, scores: Tensor, seconds: float) -> None:
        """Begins with texts for each slot, ``[slot, text, length]``, and their scores in nats, ``[slot, text]``."""
        slots = torch.arange(len(ids))
        self._state = self._searcher.init(self._problem, ids, scores)
        best = scores.argmin(1)
        self._observe(Found.of(len(ids), slots, ids[slots, best], scores[slots, best]), self.best.running, seconds)
