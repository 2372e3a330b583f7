"""Prompts laid out between the texts of their contexts, for few passes through the LM."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.scoring.context import Context

# A target with a context of its own is padded to a multiple of this many positions. It is the target's own length that
# decides, not the longest of the batch: another width rounds differently, and Adam amplifies that.
_WIDTH_STEP = 16


@dataclass(frozen=True)
class Frame:
    """Contexts that go through the LM together: rows of one width, all padded on the left or all not."""

    contexts: Int[Tensor, " row"]  #: their numbers, rising
    ids: Int[Tensor, "row position"]  #: their tokens; any where a prompt or padding stands
    start: Int[Tensor, " row"]  #: position of each prompt
    mask: Bool[Tensor, "row position"] | None  #: which positions are not padding; None where none is
    length: int  #: positions of a prompt

    @property
    def width(self) -> int:
        """Positions of a row."""
        return self.ids.shape[1]

    def places(self, contexts: Tensor) -> Tensor:
        """Rows of some of the contexts."""
        return torch.searchsorted(self.contexts, contexts)

    def masked(self, places: Tensor) -> Tensor | None:
        """The mask of some rows."""
        return None if self.mask is None else self.mask[places]

    def _columns(self, places: Tensor) -> Tensor:
        return self.start[places].unsqueeze(1) + torch.arange(self.length)

    def tokens(
        self, prompts: Int[Tensor, "prompt length"], places: Int[Tensor, " prompt"]
    ) -> Int[Tensor, "prompt position"]:
        """Token prompts in the contexts of some rows."""
        return self.ids[places].scatter_(1, self._columns(places), prompts)

    def embeddings(
        self, lm: FrozenLM, prompts: Float[Tensor, "prompt length embedding"], places: Int[Tensor, " prompt"]
    ) -> Float[Tensor, "prompt position embedding"]:
        """Soft prompts, on the LM's device, in the contexts of some rows; differentiable, in the prompts' dtype."""
        if self.width == self.length:
            return prompts
        rows, columns = torch.arange(len(places)).unsqueeze(1), self._columns(places)
        where = rows.to(prompts.device), columns.to(prompts.device)
        return lm.embed(self.ids[places]).to(prompts).index_put(where, prompts)


def frames(lm: FrozenLM, contexts: Sequence[Context], length: int) -> list[Frame]:
    """Groups contexts by the width of their rows; prompts may have length 0.

    The module's own context is laid out without padding; a target's own one is padded on the left to a width that
    follows from its own length. So targets with texts of many lengths share few passes through the LM, and a result
    does not depend on which targets share its chunk. The frames hold every context once, on the CPU.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for number, context in enumerate(contexts):
        total = len(context.ids) + length
        width = _width(lm, total, context)
        # whether a row is padded decides its kernel, so those that are not stay among themselves
        groups.setdefault((width, width > total), []).append(number)
    return [_frame(own, [contexts[i] for i in own], length, *key) for key, own in sorted(groups.items())]


def _width(lm: FrozenLM, total: int, context: Context) -> int:
    if not context.own or not lm.takes_padding:
        return total
    width = -(-total // _WIDTH_STEP) * _WIDTH_STEP
    return width if lm.max_length is None else min(width, lm.max_length)


def _frame(numbers: list[int], contexts: list[Context], length: int, width: int, padded: bool) -> Frame:
    ids = torch.zeros(len(numbers), width, dtype=torch.long)
    start = torch.empty(len(numbers), dtype=torch.long)
    mask = torch.zeros(len(numbers), width, dtype=torch.bool)
    for row, context in enumerate(contexts):
        first = width - len(context.ids) - length
        start[row] = first + len(context.before_ids)
        ids[row, first : start[row]] = torch.tensor(context.before_ids)
        ids[row, width - len(context.after_ids) :] = torch.tensor(context.after_ids)
        mask[row, first:] = True
    return Frame(torch.tensor(numbers), ids, start, mask if padded else None, length)
