"""What an LM gives in a context, computed or known from before."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_prompt.lm import FrozenLM, LMCache
from lit_prompt.lm.cache import digest
from lit_prompt.scoring.context import Context
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.part import Part
from lit_prompt.scoring.prompted_lm import PromptedLM


class ContextStates:
    """An LM's states after token sequences in a context, which serve all targets.

    Args:
        lm: the LM.
        context: what stands around the sequences.
        micro_batch: how many of them go through the LM at once.
        cache: has states from before, and gets new ones; None to keep none.
    """

    def __init__(self, lm: FrozenLM, context: Context, micro_batch: MicroBatch, cache: LMCache | None = None) -> None:
        self._lm = lm
        self._context = context
        self._micro_batch = micro_batch
        self._cache = cache

    @torch.no_grad()
    def each(
        self, ids: Tensor, ends: int, function: Callable[[Tensor, Tensor, Tensor], None], needs_logits: bool
    ) -> None:
        """Gives ``function`` the states after the last positions of sequences, in the same parts from LM and cache.

        A part has logits of 0.5 GB at most, or those of a single sequence. What is kept takes
        ``sequences * ends * (features + 1)`` numbers of the score's dtype, in memory and on disk, or nothing where that
        is more than the cache takes.

        Args:
            ids: ``[sequence, position]``.
            ends: how many of the last positions.
            function: takes numbers of sequences ``[row]``, logits ``[row * end, vocab]`` and features
                ``[row * end, feature]``; it may get a part a second time.
            needs_logits: whether logits are wanted; if not, their log-partition takes their place, ``[row * end, 1]``.
        """
        lm, cache = self._lm, self._cache
        prompted = PromptedLM(lm, [self._context], ids.shape[1], self._micro_batch)
        most_rows = prompted.most_rows(ends)
        about = {"what": "states", **self._context.layout, "ids": digest(ids), "shape": ids.shape, "ends": ends}
        if lm.temperature != 1.0:
            about["temperature"] = lm.temperature
        if lm.rounding is not None:
            about["rounding"] = lm.rounding
        known = None if cache is None else cache.get(about)
        if known is not None:
            log_partition, features = known["log_partition"], known["features"]

            def recall(rows: Tensor) -> None:
                own = features[rows].flatten(0, 1).to(lm.head_device)
                stands_for = None if needs_logits else log_partition[rows].flatten(0, 1).to(lm.head_device)
                function(rows, lm.logits(own) if stands_for is None else stands_for, own)

            for rows in torch.arange(len(ids)).split(most_rows):
                self._micro_batch.run(recall, rows)
            return
        found: dict[str, Tensor] = {}

        def compute(part: Part) -> None:
            own = lm.scaled((part.features[:, -ends:] if ends > 1 else part.features.unsqueeze(1)).flatten(0, 1))
            logits = lm.logits(own)
            log_partition = logits.logsumexp(-1, keepdim=True)
            function(part.rows, logits if needs_logits else log_partition, own)
            size = len(ids) * ends * (own.shape[1] + 1) * own.element_size()
            if cache is not None and cache.takes(size):
                for name, x in (("log_partition", log_partition), ("features", own)):
                    if name not in found:
                        found[name] = torch.empty(len(ids), ends, x.shape[1], dtype=x.dtype)
                    found[name][part.rows] = x.unflatten(0, (-1, ends)).cpu()

        which = torch.arange(len(ids))
        prompted.each(ids, which, torch.zeros_like(which), compute, held=ends, most_rows=most_rows)
        if cache is not None and found:
            cache.put(about, found)
