"""An LM after prompts in contexts: layout, memory, caches of shared prefixes, and the count of passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_prompt.functional import normalize_log_probs
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, PrefixCache
from lit_prompt.scoring.context import Context
from lit_prompt.scoring.layout import Frame, frames
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.prefix_groups import group_by_start

# what a part of the prompts may take: their keys and values, or their logits
_BYTES_PER_PART = 2**29
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class Bases:
    """Prompts whose variations are scored.

    Attributes:
        ids: ``[base, length]``.
        caches: KV cache of the bases in each frame; None where the LM keeps none.
        places: place of each base in its cache, ``[base]``.
        log_probs: log-probability of each token given those before it, ``[base, length]``; None where nobody asks.
    """

    ids: Int[Tensor, "base length"]
    caches: list[PrefixCache | None]
    places: Int[Tensor, " base"]
    log_probs: Float[Tensor, "base length"] | None = None


@dataclass(frozen=True)
class Part:
    """Prompts that went through the LM together.

    Attributes:
        rows: which prompts, ``[row]``, on the CPU.
        prompts: the prompts, as they were given.
        start: position of each prompt, ``[row]``, on the CPU.
        leads: whether something stands before each prompt, ``[row]``, bool, on the CPU.
        features: after the last position ``[row, feature]``, or after every computed one ``[row, position, feature]``.
        first: the first position that was computed.
    """

    rows: Int[Tensor, " row"]
    prompts: Tensor
    start: Int[Tensor, " row"]
    leads: Bool[Tensor, " row"]
    features: Float[Tensor, "..."]
    first: int


class _Rest(NamedTuple):
    """Variations in one frame; with a cache only the positions from the first one on are computed."""

    frame: Frame
    rows: Tensor
    at: Tensor
    tokens: Tensor
    cache: PrefixCache | None
    places: Tensor
    first: int


class PromptedLM:
    """What an LM gives after prompts, each in the context of its slot.

    Args:
        lm: the LM.
        contexts: of each slot.
        length: positions of a prompt.
        micro_batch: how many prompts go through the LM at once.

    Attributes:
        passes: prompts that went through the LM for each slot, ``[slot]``, int64.
    """

    def __init__(self, lm: FrozenLM, contexts: Sequence[Context], length: int, micro_batch: MicroBatch) -> None:
        self.lm = lm
        self.length = length
        self.micro_batch = micro_batch
        self.passes = torch.zeros(len(contexts), dtype=torch.long)
        self._frames = frames(lm, contexts, length)
        self._frame_of = torch.empty(len(contexts), dtype=torch.long)
        for number, frame in enumerate(self._frames):
            self._frame_of[frame.slots] = number
        self._caching: list[bool | None] = [None] * len(self._frames)

    def count(self, slots: Tensor) -> None:
        """Counts a prompt for each of some slots."""
        self.passes += torch.bincount(slots, minlength=len(self.passes))

    def _split(self, slots: Tensor) -> Iterator[tuple[int, Frame, Tensor]]:
        for number, frame in enumerate(self._frames):
            rows = (self._frame_of[slots] == number).nonzero().flatten()
            if len(rows):
                yield number, frame, rows

    def each(
        self, prompts: Tensor, slots: Tensor, function: Callable[[Part], None], every: bool = False, most_rows: int = 0
    ) -> None:
        """Puts prompts through the LM.

        Args:
            prompts: token ids ``[prompt, length]`` on the CPU, or embeddings ``[prompt, length, embedding]``, in which
                features are differentiable where gradients are enabled.
            slots: of each, ``[prompt]``.
            function: takes the parts; one may come a second time, so it is to write results under the rows' numbers.
            every: features after every position.
            most_rows: of a part; 0 for no limit but the memory.
        """
        for _, frame, rows in self._split(slots):

            def run(rows: Tensor, frame: Frame = frame) -> None:
                places = frame.places(slots[rows])
                own = prompts[rows.to(prompts.device)]
                if own.is_floating_point():
                    own = own.to(self.lm.device).requires_grad_(torch.is_grad_enabled())
                    x = frame.embeddings(self.lm, own, places)
                else:
                    x = self.lm.embed(frame.tokens(own, places))
                features = self.lm.features(x, frame.masked(places), every)
                function(self._part(rows, own, frame, places, features, 0))

            for part in rows.split(most_rows or len(rows)):
                self.micro_batch.run(run, part, restart=lambda: None)

    @staticmethod
    def _part(rows: Tensor, prompts: Tensor, frame: Frame, places: Tensor, features: Tensor, first: int) -> Part:
        start = frame.start[places]
        padding = 0 if frame.mask is None else frame.width - frame.mask[places].sum(1)
        return Part(rows, prompts, start, start > padding, features, first)

    # ---- variations of token prompts ----

    @torch.no_grad()
    def bases(self, ids: Int[Tensor, "base length"], slots: Int[Tensor, " base"]) -> Bases:
        """Prepares token prompts ``[base, length]``, each in the context of its slot, for their variations."""
        caches: list[PrefixCache | None] = [None] * len(self._frames)
        places = torch.zeros(len(ids), dtype=torch.long)
        for number, frame, rows in self._split(slots):
            if not self._caches(number):
                continue
            parts: list[PrefixCache] = []

            def prepare(rows: Tensor, frame: Frame = frame, parts: list[PrefixCache] = parts) -> None:
                at = frame.places(slots[rows])
                parts.append(self.lm.prefix_cache(frame.tokens(ids[rows], at), frame.masked(at)))

            self.micro_batch.run(prepare, rows, parts.clear)
            caches[number] = PrefixCache.joined(parts)
            places[rows] = torch.arange(len(rows))
        return Bases(ids, caches, places)

    def _caches(self, number: int) -> bool:
        frame, known = self._frames[number], self._caching[number]
        if known is None:
            known = self.lm.caches_prefixes(frame.width, frame.mask is not None)
            self._caching[number] = known
        return known

    @torch.no_grad()
    def each_variation(
        self,
        ids: Tensor,
        slots: Tensor,
        bases: Bases,
        base: Tensor,
        function: Callable[[Part], None],
        every: bool = False,
    ) -> None:
        """Puts variations of prompts through the LM, from the first token that differs on.

        Args:
            ids: ``[prompt, length]``.
            slots: of each, ``[prompt]``; with the context of the base's.
            bases: what they vary.
            base: which of them each varies, ``[prompt]``.
            function: as of :meth:`each`.
            every: features after every position from the one before the first changed token on.
        """
        for number, frame, rows in self._split(slots):
            cache, at = bases.caches[number], frame.places(slots[rows])
            tokens = frame.tokens(ids[rows], at)
            groups = [(0, torch.arange(len(rows)))]
            if cache is not None:
                same = (tokens == frame.tokens(bases.ids[base[rows]], at)).long().cumprod(1).sum(1)
                same = same.clamp_max(frame.width - 1)
                low = int(same.min())
                groups = [(low + start, members) for start, members in group_by_start(same - low, frame.width - low)]
            for start, members in groups:
                first = start - 1 if every else start  # a token is predicted one position before it
                rest = _Rest(
                    frame, rows, at, tokens, cache if first > 0 else None, bases.places[base[rows]], max(first, 0)
                )
                run = partial(self._continue, rest, function, every)
                for part in members.split(self._most_rows(cache, start, every)):
                    self.micro_batch.run(run, part, restart=lambda: None)

    def _continue(self, rest: _Rest, function: Callable[[Part], None], every: bool, which: Tensor) -> None:
        first = 0 if rest.cache is None else rest.first
        at = rest.at[which]
        mask, x = rest.frame.masked(at), rest.tokens[which, first:]
        if rest.cache is None:
            features = self.lm.features(self.lm.embed(x), mask, every)
        else:
            features = self.lm.features_after(rest.cache, rest.places[which], first, x, mask, every)
        function(self._part(rest.rows[which], rest.tokens[which], rest.frame, at, features, first))

    def _most_rows(self, cache: PrefixCache | None, positions: int, every: bool) -> int:
        row = 8 * self.lm.vocab_size * (self.length if every else 1)
        if cache is not None:
            row += 2 * cache.bytes_per_position() * positions
        return max(_FEWEST_ROWS, _BYTES_PER_PART // row)

    def most_rows(self, ends: int = 1) -> int:
        """Rows of a part whose logits after some positions are held."""
        return max(1 if ends > 1 else _FEWEST_ROWS, _BYTES_PER_PART // (8 * self.lm.vocab_size * ends))

    @torch.no_grad()
    def log_probs(
        self, prompts: Tensor, slots: Int[Tensor, " prompt"], also: Callable[[Part], None] | None = None
    ) -> Float[Tensor, "prompt vocab"]:
        """Next-token log-probabilities after prompts.

        Args:
            prompts: as of :meth:`each`.
            slots: of each, ``[prompt]``.
            also: takes the parts too.

        Returns:
            ``[prompt, vocab]``, float64, on the CPU.
        """
        found = torch.empty(len(prompts), self.lm.vocab_size, dtype=torch.float64)

        def fill(part: Part) -> None:
            found[part.rows] = normalize_log_probs(double(self.lm.logits(part.features)))
            if also is not None:
                also(part)

        self.each(prompts, slots, fill)
        return found
