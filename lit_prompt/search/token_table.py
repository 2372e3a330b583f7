"""Input embeddings of the tokens that a prompt may hold, and which of these are alike."""

from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.functional.rows import pad_rows
from lit_prompt.functional.swaps import best_swaps
from lit_prompt.lm import FrozenLM


class TokenTable:
    """The embeddings of the allowed tokens, made once: the LM's own may hold others, in another dtype or order.

    Args:
        lm: the LM.
        allowed: ids, rising, ``[allowed]``, on the CPU.
    """

    def __init__(self, lm: FrozenLM, allowed: Tensor) -> None:
        self._lm = lm
        self._allowed = allowed
        self._alike: dict[tuple[int, int], Tensor] = {}

    @cached_property
    def embeddings(self) -> Tensor:
        """``[allowed, embedding]``, float32, on the LM's device."""
        return self._lm.embed(self._allowed).float()

    @cached_property
    def _norms(self) -> Tensor:
        return self.embeddings.norm(dim=1).clamp_min(1e-12)

    def products(self, x: Tensor) -> Tensor:
        """Of rows with each embedding, ``[row, embedding]`` to ``[row, allowed]``, both on the LM's device.

        A row's values do not depend on how many rows there are.
        """
        return (pad_rows(x) @ self.embeddings.T)[: len(x)]

    def index(self, ids: Tensor) -> Tensor:
        """Index of each id among the allowed ones, -1 if it is not one: ``[...]`` to ``[...]``."""
        index = torch.searchsorted(self._allowed, ids.contiguous()).clamp_max(len(self._allowed) - 1)
        return torch.where(self._allowed[index] == ids, index, -1)

    def alike(self, ids: Tensor, k: int) -> Tensor:
        """The ``k`` allowed tokens whose embeddings point most nearly as each token's does, the token itself not.

        ``[token]`` to ``[token, k]``, nearest first (all others where there are fewer), on the CPU.
        """
        unique, place = ids.unique(return_inverse=True)
        asked = torch.tensor([token for token in unique.tolist() if (token, k) not in self._alike], dtype=torch.long)
        if len(asked):
            cosine = self.products(self._lm.embed(asked).float()) / self._norms
            current = self.index(asked).view(-1, 1).to(cosine.device)
            nearest = self._allowed[best_swaps(-cosine.unsqueeze(1), current, k)[:, 0].cpu()]
            self._alike |= {(token, k): own for token, own in zip(asked.tolist(), nearest, strict=True)}
        return torch.stack([self._alike[token, k] for token in unique.tolist()])[place]
