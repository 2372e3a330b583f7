"""Prompts that survive as text."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lit_prompt.lm import RoundTrip
from lit_prompt.search.kept_candidates import KeptCandidates

_READ_AT_ONCE = 8


class ReadablePrompts:
    """Finds, among token prompts, those whose text is encoded to the same tokens.

    Each slot's round trip tells; ``round_trips`` is None where survival does not matter, and any prompt will do.
    ``allowed`` holds the ids that a prompt may hold, ``[allowed]``, rising.
    """

    def __init__(self, round_trips: Sequence[RoundTrip] | None, allowed: Tensor, length: int) -> None:
        self._round_trips = round_trips
        self._allowed = allowed
        self._length = length
        self.kept: KeptCandidates | None = None  #: takes all prompts that :meth:`best` is given; None where none does

    def best(self, ids: Tensor, scores: Tensor, slots: Tensor, below: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best of each slot's prompts that survive as text: which, ``[slot]``, and its score, ``inf`` for none.

        Prompts are ``[slot, prompt, length]``, their scores ``[slot, prompt]`` in nats; these must be finite and below
        ``below``, ``[slot]``, if given. Prompts are decoded and encoded best first, until one survives.
        """
        if ids.shape[1] == 0:
            return torch.zeros(len(ids), dtype=torch.long), scores.new_full((len(ids),), torch.inf)
        scores = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
        if self.kept is not None:
            self.kept.take(ids, scores, slots)
        if below is not None:
            scores = scores.masked_fill(scores >= below.unsqueeze(1), torch.inf)
        rank = self.first(ids, scores, slots, 1)[:, 0]
        chosen = torch.where(rank < 0, scores.argmin(1), rank)
        found = scores.gather(1, chosen.unsqueeze(1)).squeeze(1)
        return chosen, found.masked_fill(rank < 0, torch.inf)

    def first(self, ids: Tensor, scores: Tensor, slots: Tensor, count: int) -> Tensor:
        """The best prompts of each slot that survive as text: which, ``[slot, count]``, -1 where there are fewer.

        Prompts and scores are as of :meth:`best`; what is not finite is left out.
        """
        order = scores.sort(dim=1, stable=True)
        found = torch.full((len(ids), count), -1)
        if self._round_trips is None:
            best = order.indices[:, :count].masked_fill(~order.values[:, :count].isfinite(), -1)
            found[:, : best.shape[1]] = best
            return found
        at_once = max(_READ_AT_ONCE, count)
        for row, possible in enumerate(order.values.isfinite().sum(1).tolist()):
            survivors: list[Tensor] = []
            for begin in range(0, possible, at_once):
                places = order.indices[row, begin : min(begin + at_once, possible)]
                survives = self._round_trips[int(slots[row])].survives(ids[row, places].tolist())
                survivors.append(places[torch.tensor(survives)])
                if sum(map(len, survivors)) >= count:
                    break
            if survivors:
                kept = torch.cat(survivors)[:count]
                found[row, : len(kept)] = kept
        return found

    def repaired(self, ids: Tensor, slots: Tensor) -> Tensor:
        """Cuts longer prompts, ``[prompt, position]``, to the last tokens that their texts give again.

        ``[prompt, length]``; a prompt's own last tokens where its text gives too few, or ones that are not allowed.
        """
        plain = ids[:, ids.shape[1] - self._length :]
        if self._round_trips is None:
            return plain
        return self._read(self.texts(ids, slots), slots, plain)

    def texts(self, ids: Tensor, slots: Tensor) -> list[str]:
        """The texts of slots' prompts, ``[prompt, position]``; empty where survival as text does not matter."""
        if self._round_trips is None:
            return [""] * len(ids)
        return [self._round_trips[slot].text(row) for row, slot in zip(ids.tolist(), slots.tolist(), strict=True)]

    def changed(self, ids: Tensor, slots: Tensor, places: Tensor, change: Callable[[str, str, int], str]) -> Tensor:
        """Prompts, ``[prompt, length]``, whose texts are changed from a position on, ``[prompt]``.

        ``change`` is given what stands before it, what stands there, and the number of the prompt; it gives the whole
        text. Where a text comes to more tokens than a prompt has, its last ones count, as those matter most. A prompt
        stays as it is where there are too few, or ones that are not allowed, and where survival as text does not
        matter.
        """
        if self._round_trips is None:
            return ids
        texts = []
        for row, (slot, place) in enumerate(zip(slots.tolist(), places.tolist(), strict=True)):
            own = ids[row].tolist()
            whole, kept = (self._round_trips[slot].text(part) for part in (own, own[:place]))
            texts.append(change(kept, whole[len(kept) :], row) if len(kept) < len(whole) else whole)
        return self._read(texts, slots, ids)

    def _read(self, texts: Sequence[str], slots: Tensor, others: Tensor) -> Tensor:
        """The last tokens of slots' texts, ``[prompt, length]``; ``others`` where they are too few or not allowed."""
        assert self._round_trips is not None
        again = others.clone()
        for slot in slots.unique().tolist():
            rows = (slots == slot).nonzero().flatten().tolist()
            found = self._round_trips[slot].tokens([texts[row] for row in rows], self._length)
            for row, ids in zip(rows, found, strict=True):
                if ids is not None:
                    again[row] = torch.tensor(ids)
        return torch.where(torch.isin(again, self._allowed).all(1, keepdim=True), again, others)
