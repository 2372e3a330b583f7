"""Prompts that survive as text."""

import torch
from torch import Tensor

from lit_prompt.lm.round_trip import RoundTrip

_READ_AT_ONCE = 8


class ReadablePrompts:
    """Finds, among token prompts, those whose text gives their tokens again.

    Args:
        round_trip: asks whether a prompt survives; None where that does not matter.
        allowed: ids that a prompt may hold, rising, ``[allowed]``.
        length: tokens of a prompt.
    """

    def __init__(self, round_trip: RoundTrip | None, allowed: Tensor, length: int) -> None:
        self._round_trip = round_trip
        self._allowed = allowed
        self._length = length

    def best(self, ids: Tensor, scores: Tensor, below: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best of each target's prompts whose text gives its tokens again; only the best ones are asked about.

        Args:
            ids: ``[target, prompt, length]``.
            scores: nats, ``[target, prompt]``.
            below: what a score must be below, ``[target]``; None for any finite one.

        Returns:
            Which prompt, ``[target]``, and its score, ``inf`` where there is none.
        """
        if ids.shape[1] == 0:
            return torch.zeros(len(ids), dtype=torch.long, device=ids.device), scores.new_full((len(ids),), torch.inf)
        scores = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
        if below is not None:
            scores = scores.masked_fill(scores >= below.unsqueeze(1), torch.inf)
        order = scores.sort(dim=1, stable=True)
        if self._round_trip is None:
            return order.indices[:, 0], order.values[:, 0]
        chosen = order.indices[:, 0].clone()
        found = torch.full_like(order.values[:, 0], torch.inf)
        left = list(range(len(ids)))
        for begin in range(0, scores.shape[1], _READ_AT_ONCE):
            left = [t for t in left if not bool(found[t].isfinite()) and bool(order.values[t, begin].isfinite())]
            if not left:
                break
            ranks = order.indices[left, begin : begin + _READ_AT_ONCE]
            rows = torch.tensor(left, device=ids.device).unsqueeze(1)
            asked = ids[rows, ranks].flatten(0, 1).tolist()
            survives = torch.tensor(self._round_trip.survives(asked), device=ids.device).view(ranks.shape)
            survives &= scores[rows, ranks].isfinite()
            first = survives.long().argmax(1)
            for i, target in enumerate(left):
                if survives[i, first[i]]:
                    chosen[target] = ranks[i, first[i]]
                    found[target] = scores[target, chosen[target]]
        return chosen, found

    def repaired(self, ids: Tensor) -> Tensor:
        """Prompts of the last tokens that the texts of longer ones give again.

        Args:
            ids: ``[prompt, position]``, at least as many positions as a prompt has.

        Returns:
            ``[prompt, length]``; the last tokens as they are where the text gives too few, or ones not allowed.
        """
        plain = ids[:, ids.shape[1] - self._length :]
        if self._round_trip is None:
            return plain
        again = torch.stack(
            [
                own
                if (found := self._round_trip.repaired(row.tolist(), self._length)) is None
                else ids.new_tensor(found)
                for row, own in zip(ids, plain, strict=True)
            ]
        )
        return torch.where(torch.isin(again, self._allowed).all(1, keepdim=True), again, plain)

    def first(self, ids: Tensor) -> Tensor:
        """The first of some longer prompts ``[prompt, position]`` that survives when repaired, ``[length]``."""
        repaired = self.repaired(ids)
        order = torch.arange(len(ids), dtype=torch.float32, device=ids.device)
        chosen, _ = self.best(repaired.unsqueeze(0), order.unsqueeze(0))
        return repaired[chosen[0]]
