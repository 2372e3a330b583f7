"""An LM after prompts in contexts: layout, memory, caches of shared prefixes, and the count of passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_prompt.lm import FrozenLM, PrefixCache
from lit_prompt.scoring.context import Context
from lit_prompt.scoring.layout import Frame, frames
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.prefix_groups import group_by_own_start, group_by_start

# what a part of the prompts may take: their keys and values, or their logits
_BYTES_PER_PART = 2**29
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class Bases:
    """Prompts in contexts, whose variations are scored."""

    ids: Int[Tensor, "base length"]
    caches: list[PrefixCache | None]  #: KV cache of the bases in each frame; None where the LM keeps none
    places: Int[Tensor, " base"]  #: place of each base in its cache
    first: Int[Tensor, " prompt"]  #: the base that is each prompt in the first of its contexts
    log_probs: Float[Tensor, "base length"] | None = None  #: of each token given those before it; None if not needed


@dataclass(frozen=True)
class Part:
    """Prompts that went through the LM together; all but prompts and features are on the CPU."""

    rows: Int[Tensor, " row"]  #: which rows of those that were given
    prompts: Tensor  #: their prompts
    start: Int[Tensor, " row"]  #: position of each prompt
    leads: Bool[Tensor, " row"]  #: whether something stands before each prompt
    features: Float[Tensor, "..."]  #: ``[row, feature]`` of the last, or ``[row, position, feature]`` of each position
    first: int  #: the first position that was computed

    def at(self, rows: Tensor, back: Tensor) -> Tensor:
        """Features of some rows so many positions before their ends, ``[place]`` both: ``[place, feature]``.

        Those of all rows' last positions, in their order, are not copied.
        """
        features = self.features if self.features.dim() == 2 else self.features[:, -1]
        if len(rows) == len(self.rows) and not bool(back.any()) and bool((rows == torch.arange(len(rows))).all()):
            return features
        device = features.device
        if self.features.dim() == 2:
            return features[rows.to(device)]
        return self.features[rows.to(device), (self.features.shape[1] - 1 - back).to(device)]


class PromptedLM:
    """What an LM gives after prompts of ``length`` positions, each in one of some contexts.

    A row is a prompt in a context; contexts are given by their numbers.
    """

    def __init__(self, lm: FrozenLM, contexts: Sequence[Context], length: int, micro_batch: MicroBatch) -> None:
        self.lm = lm
        self.length = length
        self.micro_batch = micro_batch
        self._frames = frames(lm, contexts, length)
        self._frame_of = torch.empty(len(contexts), dtype=torch.long)
        for number, frame in enumerate(self._frames):
            self._frame_of[frame.contexts] = number
        self._caching: list[bool | None] = [None] * len(self._frames)

    def _split(self, contexts: Tensor) -> Iterator[tuple[int, Frame, Tensor]]:
        for number, frame in enumerate(self._frames):
            rows = (self._frame_of[contexts] == number).nonzero().flatten()
            if len(rows):
                yield number, frame, rows

    def each(
        self,
        prompts: Tensor,
        which: Int[Tensor, " row"],
        contexts: Int[Tensor, " row"],
        function: Callable[[Part], None],
        held: int = 1,
        most_rows: int = 0,
    ) -> None:
        """Puts prompts in contexts through the LM, in parts that ``function`` takes.

        Args:
            prompts: token ids ``[prompt, length]`` on the CPU, or embeddings ``[prompt, length, embedding]``, in which
                features are differentiable where gradients are enabled.
            which: the prompt of each row.
            contexts: its context.
            function: takes parts. One may come a second time, so it is to write results under the rows' numbers.
            held: of how many positions of a row the logits are held; of more than the last there are features after
                every position.
            most_rows: of a part; 0 for as many as fit the memory.
        """
        for _, frame, rows in self._split(contexts):

            def run(rows: Tensor, frame: Frame = frame) -> None:
                places = frame.places(contexts[rows])
                own = prompts[which[rows].to(prompts.device)]
                if own.is_floating_point():
                    own = own.to(self.lm.device).requires_grad_(torch.is_grad_enabled())
                    x = frame.embeddings(self.lm, own, places)
                else:
                    x = self.lm.embed(frame.tokens(own, places))
                features = self.lm.features(x, frame.masked(places), held > 1)
                function(self._part(rows, own, frame, places, features, 0))

            for part in self._parts(rows, frame.width, most_rows):
                self.micro_batch.run(run, part)

    def _parts(self, rows: Tensor, positions: int, most_rows: int = 0) -> tuple[Tensor, ...]:
        limits = [limit for limit in (most_rows, self.lm.most_items(positions)) if limit]
        return rows.split(min(limits, default=len(rows)))

    @staticmethod
    def _part(rows: Tensor, prompts: Tensor, frame: Frame, places: Tensor, features: Tensor, first: int) -> Part:
        start = frame.start[places]
        padding = 0 if frame.mask is None else frame.width - frame.mask[places].sum(1)
        return Part(rows, prompts, start, start > padding, features, first)

    # ---- variations of token prompts ----

    @torch.no_grad()
    def bases(
        self, ids: Int[Tensor, "base length"], contexts: Int[Tensor, " base"], first: Int[Tensor, " prompt"]
    ) -> Bases:
        """Prepares token prompts ``[base, length]``, each in a context, for their variations; see :class:`Bases`."""
        caches: list[PrefixCache | None] = [None] * len(self._frames)
        places = torch.zeros(len(ids), dtype=torch.long)
        for number, frame, rows in self._split(contexts):
            if not self._caches(number):
                continue
            parts: list[PrefixCache] = []

            def prepare(rows: Tensor, frame: Frame = frame, parts: list[PrefixCache] = parts) -> None:
                for own in self._parts(rows, frame.width):
                    at = frame.places(contexts[own])
                    parts.append(self.lm.prefix_cache(frame.tokens(ids[own], at), frame.masked(at)))

            self.micro_batch.run(prepare, rows, parts.clear)
            caches[number] = PrefixCache.joined(parts)
            places[rows] = torch.arange(len(rows))
        return Bases(ids, caches, places, first)

    def _caches(self, number: int) -> bool:
        frame, known = self._frames[number], self._caching[number]
        if known is None:
            known = self.lm.caches_prefixes(frame.width, frame.mask is not None)
            self._caching[number] = known
        return known

    @torch.no_grad()
    def each_variation(
        self,
        prompts: Tensor,
        which: Tensor,
        contexts: Tensor,
        bases: Bases,
        base: Tensor,
        function: Callable[[Part], None],
        held: int = 1,
    ) -> None:
        """Puts variations of token prompts through the LM, from the first token that differs on.

        ``base`` says which of the bases each row varies, ``[row]``, one in the same context; the rest is as in
        :meth:`each`. Where more than one position is held there are features after every one from that before the first
        changed token on.
        """
        for number, _, rows in self._split(contexts):
            self._vary(number, rows, prompts[which[rows]], contexts[rows], bases, base[rows], function, held)

    def _vary(
        self,
        number: int,
        rows: Tensor,
        ids: Tensor,
        contexts: Tensor,
        bases: Bases,
        base: Tensor,
        function: Callable[[Part], None],
        held: int,
    ) -> None:
        """Variations in one frame; with a cache only the positions from the first changed one on are computed."""
        frame, cache, sequences = self._frames[number], bases.caches[number], bases.places[base]
        every = held > 1
        at = frame.places(contexts)
        tokens = frame.tokens(ids, at)

        def run(which: Tensor, first: int) -> None:
            mask, x = frame.masked(at[which]), tokens[which, first:]
            if cache is None or first == 0:
                features = self.lm.features(self.lm.embed(x), mask, every)
            else:
                features = self.lm.features_after(cache, sequences[which], first, x, mask, every)
            function(self._part(rows[which], ids[which], frame, at[which], features, first))

        groups = [(0, torch.arange(len(rows)))]
        if cache is not None:
            same = (tokens == frame.tokens(bases.ids[base], at)).long().cumprod(1).sum(1).clamp_max(frame.width - 1)
            if self.lm.most_items(1) is None:
                low = int(same.min())
                groups = [(low + start, members) for start, members in group_by_start(same - low, frame.width - low)]
            else:
                groups = group_by_own_start(same, frame.width)
        for start, members in groups:
            first = max(start - 1 if every else start, 0)  # a token is predicted one position before it
            for part in self._parts(members, frame.width - first, self._most_rows(cache, start, held)):
                self.micro_batch.run(partial(run, first=first), part)

    def _most_rows(self, cache: PrefixCache | None, positions: int, held: int) -> int:
        row = 8 * self.lm.vocab_size * held
        if cache is not None:
            row += 2 * cache.bytes_per_position() * positions
        return max(_FEWEST_ROWS, _BYTES_PER_PART // row)

    def most_rows(self, ends: int = 1) -> int:
        """Rows of a part whose logits after some positions are held."""
        return max(1 if ends > 1 else _FEWEST_ROWS, _BYTES_PER_PART // (8 * self.lm.vocab_size * ends))
