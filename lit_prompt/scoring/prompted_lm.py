"""An LM after prompts in contexts: layout, memory, caches of shared prefixes, and the count of passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lit_prompt.lm import FrozenLM, Packed, PrefixCache
from lit_prompt.scoring.context import Context
from lit_prompt.scoring.layout import Frame, frames
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.part import Part
from lit_prompt.scoring.prefix_groups import group_by_own_start, group_by_start
from lit_prompt.scoring.trunks import Trunks

# what a part of the prompts may take: their keys and values, or their logits
_BYTES_PER_PART = 2**29
_FEWEST_ROWS = 16
# what the keys and values of a part's branches may take
_BYTES_PER_BRANCHES = 2**30
# positions on which an LM shows that it goes on from what it keeps
_PROBED = 8


@dataclass(frozen=True)
class Bases:
    """Prompts in contexts, whose variations are scored."""

    ids: Int[Tensor, "base length"]
    caches: list[PrefixCache | None]  #: KV cache of the bases in each frame; None where the LM keeps none
    places: Int[Tensor, " base"]  #: place of each base in its cache
    first: Int[Tensor, " prompt"]  #: the base that is each prompt in the first of its contexts
    log_probs: Float[Tensor, "base length"] | None = None  #: of each token given those before it; None if not needed


class PromptedLM:
    """What an LM gives after prompts of ``length`` positions, each in one of some contexts.

    A row is a prompt in a context; contexts are given by their numbers. Where contexts hold beginnings of answers, what
    stands before those goes through the LM once for all of them, if the LM keeps keys and values that can be continued.

    Args:
        lm: the LM.
        contexts: all that there are.
        length: positions of a prompt.
        micro_batch: how many prompts go through the LM at once.
        whole: whether features are wanted after every position of a row, so that none is left out.
    """

    def __init__(
        self, lm: FrozenLM, contexts: Sequence[Context], length: int, micro_batch: MicroBatch, whole: bool = False
    ) -> None:
        self.lm = lm
        self.length = length
        self.micro_batch = micro_batch
        branching = not whole and any(context.answer for context in contexts) and _continues(lm)
        self._trunks = Trunks.of_contexts(contexts, branching)
        plain, branched = (frames(lm, own, length) for own in self._trunks.by_kind())
        self._frames = [*plain, *(replace(f, contexts=f.contexts + self._trunks.plain) for f in branched)]
        self._plain = len(plain)
        self._frame_of = torch.empty(len(self._trunks.contexts), dtype=torch.long)
        for number, frame in enumerate(self._frames):
            self._frame_of[frame.contexts] = number
        self._probed: dict[tuple[int, str], bool] = {}

    def _split(self, which: Tensor, contexts: Tensor) -> Iterator[tuple[int, Frame, "_Lines"]]:
        """The frames that some rows are in, and the lines of these: a prompt in a trunk, for one row or several."""
        trunk = self._trunks.of[contexts]
        for number, frame in enumerate(self._frames):
            rows = (self._frame_of[trunk] == number).nonzero().flatten()
            if not len(rows):
                continue
            if number < self._plain:
                yield number, frame, _Lines(rows, torch.arange(len(rows)), rows, frame.places(trunk[rows]))
                continue
            pairs = torch.stack([which[rows], trunk[rows]], 1)
            lines, line = pairs.unique(dim=0, return_inverse=True)
            first = torch.full((len(lines),), len(which)).scatter_reduce(0, line, rows, "amin")
            yield number, frame, _Lines(rows, line, first, frame.places(lines[:, 1].contiguous()))

    def each(
        self,
        prompts: Tensor,
        which: Int[Tensor, " row"],
        contexts: Int[Tensor, " row"],
        function: Callable[[Part], object],
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
                every position, or after those that follow a trunk, its last one included.
            most_rows: of a part; 0 for as many as fit the memory.
        """
        for number, frame, lines in self._split(which, contexts):

            def run(chosen: Tensor, number: int = number, frame: Frame = frame, lines: _Lines = lines) -> None:
                own, places = prompts[which[lines.first[chosen]].to(prompts.device)], lines.places[chosen]
                if own.is_floating_point():
                    own = own.to(self.lm.device).requires_grad_(torch.is_grad_enabled())
                    x = frame.embeddings(self.lm, own, places)
                else:
                    x = self.lm.embed(frame.tokens(own, places))
                mask = frame.masked(places)
                if number < self._plain:
                    features = self.lm.features(x, mask, held > 1)
                    function(self._part(lines.rows[chosen], own, frame, places, features, 0))
                else:
                    features, cache = self.lm.features_and_cache(x, mask)
                    function(self._branched(lines, chosen, contexts, own, features, cache, mask))

            count = torch.arange(len(lines.first))
            most = self._most_lines(number, frame, lines, held, most_rows)
            for part in self._parts(count, frame.width, most):
                self.micro_batch.run(run, part)

    def _most_lines(self, number: int, frame: Frame, lines: "_Lines", held: int, most_rows: int) -> int:
        """Lines of a part: with branches as many as leave room for their copies of keys and values."""
        if number < self._plain:
            return most_rows
        rows = max(1, len(lines.rows) // len(lines.first))
        each = frame.width * self.lm.cache_bytes_per_position + 8 * self.lm.vocab_size * held
        most = max(1, _BYTES_PER_BRANCHES // (rows * each))
        return most if most_rows == 0 else min(most, max(1, most_rows // rows))

    def _branched(
        self,
        lines: "_Lines",
        chosen: Tensor,
        contexts: Tensor,
        prompts: Tensor,
        trunk: Tensor,
        cache: PrefixCache,
        mask: Tensor | None,
    ) -> Part:
        """The rows of some lines, ``chosen`` ``[line]``, whose trunks have gone through the LM.

        ``trunk`` are the features after the trunks, ``[line, feature]``. A row's features are those after its trunk and
        after each position of its branch, at the end of ``[row, position, feature]``.
        """
        place = torch.full((len(lines.first),), -1).index_put((chosen,), torch.arange(len(chosen)))
        mine = (place[lines.line] >= 0).nonzero().flatten()
        line, rows = place[lines.line[mine]], lines.rows[mine]
        branches = [self._trunks.branches[context] for context in contexts[rows].tolist()]
        lengths = torch.tensor([len(branch) for branch in branches])
        longest = int(lengths.max())
        found, order = [], []
        for length in lengths.unique().tolist():  # a row's own length, so that it does not depend on the others
            own = (lengths == length).nonzero().flatten()
            ids = torch.tensor([branches[i] for i in own.tolist()])
            whole = None if mask is None else nn.functional.pad(mask[line[own]], (0, length), value=True)
            after = self.lm.features_continued(cache, line[own], self.lm.embed(ids), whole)
            before = trunk[line[own].to(trunk.device)].unsqueeze(1)
            found.append(nn.functional.pad(torch.cat([before, after], 1), (0, 0, longest - length, 0)))
            order.append(own)
        features = torch.cat(found)[torch.cat(order).argsort().to(trunk.device)]
        nothing = torch.zeros(len(rows), dtype=torch.long)
        return Part(rows, prompts, line, nothing, nothing.bool(), features, 0)

    def _parts(self, rows: Tensor, positions: int, most_rows: int = 0) -> tuple[Tensor, ...]:
        limits = [limit for limit in (most_rows, self.lm.most_items(positions)) if limit]
        return rows.split(min(limits, default=len(rows)))

    @staticmethod
    def _part(rows: Tensor, prompts: Tensor, frame: Frame, places: Tensor, features: Tensor, first: int) -> Part:
        start = frame.start[places]
        padding = 0 if frame.mask is None else frame.width - frame.mask[places].sum(1)
        return Part(rows, prompts, torch.arange(len(rows)), start, start > padding, features, first)

    # ---- variations of token prompts ----

    @torch.no_grad()
    def bases(
        self,
        prompts: Int[Tensor, "prompt length"],
        which: Int[Tensor, " base"],
        contexts: Int[Tensor, " base"],
        first: Int[Tensor, " prompt"],
    ) -> Bases:
        """Prepares token prompts, each in a context, for their variations; see :class:`Bases` and :meth:`each`."""
        caches: list[PrefixCache | None] = [None] * len(self._frames)
        places = torch.zeros(len(which), dtype=torch.long)
        for number, frame, lines in self._split(which, contexts):
            if not self._takes(number, self.lm.caches_prefixes):
                continue
            parts: list[PrefixCache] = []

            def prepare(
                rows: Tensor, frame: Frame = frame, lines: _Lines = lines, parts: list[PrefixCache] = parts
            ) -> None:
                for own in self._parts(rows, frame.width):
                    at = lines.places[own]
                    ids = frame.tokens(prompts[which[lines.first[own]]], at)
                    parts.append(self.lm.prefix_cache(ids, frame.masked(at)))

            self.micro_batch.run(prepare, torch.arange(len(lines.first)), parts.clear)
            caches[number] = PrefixCache.joined(parts)
            places[lines.rows] = lines.line
        return Bases(prompts[which], caches, places, first)

    def _takes(self, number: int, probe: Callable[[int, bool], bool]) -> bool:
        """Whether the LM takes what a probe of it tries, at a frame's width and with its padding; it is tried once."""
        key = number, probe.__name__
        if key not in self._probed:
            frame = self._frames[number]
            self._probed[key] = probe(frame.width, frame.mask is not None)
        return self._probed[key]

    @torch.no_grad()
    def each_variation(
        self,
        prompts: Tensor,
        which: Tensor,
        contexts: Tensor,
        bases: Bases,
        base: Tensor,
        function: Callable[[Part], object],
        held: int = 1,
    ) -> None:
        """Puts variations of token prompts through the LM, from the first token that differs on.

        ``base`` says which of the bases each row varies, ``[row]``, one in the same context; the rest is as in
        :meth:`each`. Where more than one position is held there are features after every one from that before the first
        changed token on.
        """
        for number, _, lines in self._split(which, contexts):
            self._vary(number, lines, prompts[which[lines.first]], contexts, bases, base[lines.first], function, held)

    def _vary(
        self,
        number: int,
        lines: "_Lines",
        ids: Tensor,
        contexts: Tensor,
        bases: Bases,
        base: Tensor,
        function: Callable[[Part], object],
        held: int,
    ) -> None:
        """Variations in one frame; with a cache only the positions from the first changed one on are computed."""
        frame, cache, sequences, at = self._frames[number], bases.caches[number], bases.places[base], lines.places
        every = held > 1 and number < self._plain
        tokens = frame.tokens(ids, at)

        def run(chosen: Tensor, first: int) -> None:
            mask, x = frame.masked(at[chosen]), self.lm.embed(tokens[chosen, first:])
            known = None if cache is None or first == 0 else (cache, sequences[chosen], first)
            if number < self._plain:
                features = self.lm.features(x, mask, every) if known is None else self.lm.features_after(
                    *known, x, mask, every)  # fmt: skip
                function(self._part(lines.rows[chosen], ids[chosen], frame, at[chosen], features, first))
            else:
                features, whole = self.lm.features_and_cache(x, mask, known)
                function(self._branched(lines, chosen, contexts, ids[chosen], features, whole, mask))

        groups = [(0, torch.arange(len(ids)))]
        if cache is not None:
            same = (tokens == frame.tokens(bases.ids[base], at)).long().cumprod(1).sum(1).clamp_max(frame.width - 1)
            # not where items go through the LM by a fixed number
            alone = self.lm.most_items(1) is not None
            if number < self._plain and not every and not alone and self._takes(number, self.lm.takes_packed):
                capacity = self._capacity(frame, at)

                def run_packed(chosen: Tensor) -> None:
                    own = tokens[chosen], same[chosen], sequences[chosen], capacity[chosen], frame.masked(at[chosen])
                    packed = Packed.of(*own)
                    chosen = chosen[packed.items]
                    features = self.lm.features_packed(cache, packed)
                    function(self._part(lines.rows[chosen], ids[chosen], frame, at[chosen], features, 0))

                for part in self._parts(groups[0][1], frame.width, self._most_rows(cache, frame.width, held)):
                    self.micro_batch.run(run_packed, part)
                return
            if not alone:
                low = int(same.min())
                groups = [(low + start, members) for start, members in group_by_start(same - low, frame.width - low)]
            else:
                groups = group_by_own_start(same, frame.width)
        for start, members in groups:
            first = max(start - 1 if every else start, 0)  # a token is predicted one position before it
            most = self._most_lines(number, frame, lines, held, self._most_rows(cache, start, held))
            for part in self._parts(members, frame.width - first, most):
                self.micro_batch.run(partial(run, first=first), part)

    def _capacity(self, frame: Frame, places: Tensor) -> Tensor:
        """Positions of a row that some lines' variations are packed in: as many as the longest one takes.

        Twice as many where a text follows the prompt, since two of one row would not fit one another then.
        """
        longest = frame.width - frame.start[places]
        return torch.where(longest > self.length, 2 * longest, longest)

    def _most_rows(self, cache: PrefixCache | None, positions: int, held: int) -> int:
        row = 8 * self.lm.vocab_size * held
        if cache is not None:
            row += 2 * cache.bytes_per_position() * positions
        return max(_FEWEST_ROWS, _BYTES_PER_PART // row)

    def most_rows(self, ends: int = 1) -> int:
        """Rows of a part whose logits after some positions are held."""
        return max(1 if ends > 1 else _FEWEST_ROWS, _BYTES_PER_PART // (8 * self.lm.vocab_size * ends))


class _Lines(NamedTuple):
    """What goes through the LM in a frame for some rows: each prompt once in each trunk."""

    rows: Tensor  #: the rows
    line: Tensor  #: the line of each
    first: Tensor  #: the first row of each line
    places: Tensor  #: the place of each line in the frame


def _continues(lm: FrozenLM) -> bool:
    return all(lm.caches_prefixes(_PROBED, padded) for padded in (False, True))
