"""The fixed texts around a prompt, a target's own or the module's, and prompts laid out between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch, TargetSet
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, Vocabulary
from lit_prompt.search import MicroBatch

# A target with a context of its own is padded to a multiple of this many positions. It is the target's own length that
# decides, not the longest of the batch: another width rounds differently, and Adam amplifies that.
_WIDTH_STEP = 16


@dataclass(frozen=True)
class Context:
    """The texts around a prompt and their token ids.

    Attributes:
        before: text before the prompt.
        after: text between the prompt and the predicted token.
        before_ids: its tokens.
        after_ids: its tokens.
        own: whether it is a target's own, of other tokens than the module's.
    """

    before: str
    after: str
    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    own: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of both texts."""
        return self.before_ids + self.after_ids


@dataclass(frozen=True)
class PromptRows:
    """Prompts in contexts that go through the LM together: all of one width, padded on the left or all not.

    Attributes:
        rows: which prompts they are, ``[row]``.
        ids: the tokens around the prompts, any where a prompt or padding stands, ``[row, position]``.
        start: position of each prompt, ``[row]``.
        mask: which positions are not padding, ``[row, position]``; None where none is.
    """

    rows: Tensor
    ids: Tensor
    start: Tensor
    mask: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, which: Tensor) -> "PromptRows":
        """Some of the rows, by their place here ``[row]``."""
        mask = None if self.mask is None else self.mask[which]
        return PromptRows(self.rows[which], self.ids[which], self.start[which], mask)

    def input_embeddings(self, lm: FrozenLM, prompts: Tensor) -> Tensor:
        """Puts the rows' prompts into their contexts.

        Args:
            lm: the LM, which embeds the contexts.
            prompts: ``[row, length, embedding]``, on the LM's device.

        Returns:
            ``[row, position, embedding]`` in the prompts' dtype; differentiable in the prompts.
        """
        count, length = prompts.shape[:2]
        if self.ids.shape[1] == length:
            return prompts
        embeddings = lm.embed(self.ids).to(prompts)
        positions = self.start.unsqueeze(1) + torch.arange(length, device=prompts.device)
        rows = torch.arange(count, device=prompts.device).unsqueeze(1)
        return embeddings.index_put((rows, positions), prompts)


class Contexts:
    """The contexts of targets: their own texts, and the module's where they have none.

    A target with the module's context is laid out without padding. One with its own is padded on the left to a width
    that follows from its own length. So targets of many lengths share few passes through the LM, and a result does not
    depend on which targets share its chunk.

    Args:
        before: the module's text before the prompt.
        after: the module's text after it.
        lm: the LM.
        vocabulary: its vocabulary.
    """

    def __init__(self, before: str, after: str, lm: FrozenLM, vocabulary: Vocabulary) -> None:
        self._lm = lm
        self._vocabulary = vocabulary
        self.default = Context(before, after, *self._ids(before, after), own=False)

    def _ids(self, before: str, after: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self._vocabulary.encode(before)), tuple(self._vocabulary.encode_after(after))

    def of(self, before: str | None, after: str | None) -> Context:
        """The context of a target whose texts, where it has its own, are these."""
        default = self.default
        if before is None and after is None:
            return default
        before = default.before if before is None else before
        after = default.after if after is None else after
        ids = self._ids(before, after)
        return Context(before, after, *ids, own=ids != (default.before_ids, default.after_ids))

    def of_batch(self, batch: TargetBatch) -> list[Context]:
        """The contexts of some targets, in their order."""
        return [self.of(before, after) for before, after in zip(batch.before, batch.after, strict=True)]

    def check_lengths(self, targets: TargetSet, prompt_length: int, lm_name: str) -> None:
        """Refuses prompts that are longer, with their contexts, than the LM takes.

        Args:
            targets: all targets.
            prompt_length: positions of a prompt.
            lm_name: named in the error.

        Raises:
            InputError: names the first target whose own context is too long.
        """
        limit = self._lm.max_length
        if limit is None:
            return
        fitting: set[tuple[str | None, str | None]] = set()
        for target_id, texts in zip(targets.target_id, zip(targets.before, targets.after, strict=True), strict=True):
            if texts in fitting:
                continue
            context = self.of(*texts)
            total = len(context.ids) + prompt_length
            if total > limit:
                own = texts != (None, None)
                of_target = f"{target_id}: in this target's own context " if own else ""
                remedy = "the target's texts before and after it" if own else "model.before / model.after"
                raise InputError(
                    f"{of_target}the prompt is longer than the LM's context: {len(context.before_ids)} tokens before, "
                    f"{prompt_length} of prompt and {len(context.after_ids)} after make {total}, {lm_name} takes "
                    f"{limit}; lower model.length or shorten {remedy}"
                )
            fitting.add(texts)

    def arrange(self, contexts: Sequence[Context], prompt_length: int) -> list[PromptRows]:
        """Groups prompts by the width of their rows, for as few passes through the LM.

        Args:
            contexts: of each prompt.
            prompt_length: positions of a prompt; may be 0.

        Returns:
            Groups that hold every prompt once, on the LM's device.
        """
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, context in enumerate(contexts):
            total = len(context.ids) + prompt_length
            width = self._width(total, context)
            # whether a row is padded decides its kernel, so those that are not stay among themselves
            groups.setdefault((width, width > total), []).append(row)
        return [
            self._rows(rows, [contexts[row] for row in rows], prompt_length, *key)
            for key, rows in sorted(groups.items())
        ]

    def _width(self, total: int, context: Context) -> int:
        if not context.own or not self._lm.takes_padding:
            return total
        width = -(-total // _WIDTH_STEP) * _WIDTH_STEP
        return width if self._lm.max_length is None else min(width, self._lm.max_length)

    def _rows(
        self, rows: list[int], contexts: list[Context], prompt_length: int, width: int, padded: bool
    ) -> PromptRows:
        device = self._lm.device
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        start = torch.empty(len(rows), dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, context in enumerate(contexts):
            first = width - len(context.ids) - prompt_length
            start[i] = first + len(context.before_ids)
            ids[i, first : start[i]] = torch.tensor(context.before_ids)
            ids[i, width - len(context.after_ids) :] = torch.tensor(context.after_ids)
            mask[i, first:] = True
        return PromptRows(
            torch.tensor(rows, device=device),
            ids.to(device),
            start.to(device),
            mask.to(device) if padded else None,
        )


def run_in_parts(micro_batch: MicroBatch, groups: Sequence[PromptRows], function: Callable[[PromptRows], None]) -> None:
    """Calls ``function`` with all rows of some groups, in parts that the memory holds.

    A part may come a second time, so ``function`` is to write its results under the rows' numbers.
    """
    for group in groups:

        def run(places: Tensor, group: PromptRows = group) -> None:
            function(group.part(places))

        micro_batch.run(run, torch.arange(len(group), device=group.rows.device), restart=lambda: None)
