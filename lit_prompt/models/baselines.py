"""What a prompt has to beat: the best of some random and of some natural prompts of its length."""

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import kl_table_from_moments, seed_for
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, LMCache, Vocabulary, sample_prompts
from lit_prompt.objectives import ForwardKL
from lit_prompt.scoring import Context, Contexts, MicroBatch
from lit_prompt.scoring.context_states import ContextStates

#: Prompts of each kind.
PROMPTS = 128


class Baselines:
    """The least KL of random and of natural prompts: each prompt goes through the LM once and serves all targets.

    Random prompts are ordinary tokens, drawn evenly; natural ones are what the LM itself writes. Those of the module's
    context are held in float64, ``2 * 128 * 8 (features + 1)`` bytes.

    Args:
        lm: the LM.
        vocabulary: its vocabulary.
        contexts: what stands around the prompts.
        length: tokens of a prompt.
        micro_batch: how many of them go through the LM at once.
        cache: has natural prompts, and what the LM gives after prompts, from before, and gets new ones.
    """

    def __init__(
        self,
        lm: FrozenLM,
        vocabulary: Vocabulary,
        contexts: Contexts,
        length: int,
        micro_batch: MicroBatch,
        cache: LMCache,
    ) -> None:
        self._lm = lm
        self._vocabulary = vocabulary
        self._contexts = contexts
        self._length = length
        self._micro_batch = micro_batch
        self._cache = cache
        self._ids: dict[str, Tensor | None] = {}
        self._of_default: dict[str, Tensor] = {}  # most targets have the module's context

    def _prompts(self, kind: str) -> Tensor | None:
        """Token ids ``[prompt, length]``; None where the LM cannot write texts of this length."""
        if kind not in self._ids:
            seed = seed_for("baselines", kind)
            if kind == "natural":
                drawn = sample_prompts(self._lm, self._vocabulary, PROMPTS, self._length, seed, self._cache)
                self._ids[kind] = drawn
            else:
                ordinary = torch.tensor(self._vocabulary.ordinary_ids)
                generator = torch.Generator().manual_seed(seed)
                self._ids[kind] = ordinary[torch.randint(len(ordinary), (PROMPTS, self._length), generator=generator)]
        return self._ids[kind]

    @torch.no_grad()
    def columns(self, batch: TargetBatch) -> dict[str, list[float | None]]:
        """``kl_best_random`` and ``kl_best_natural`` of some targets in their contexts, nats; None for answers."""
        prepared = [double(x) for x in ForwardKL().prepare(batch.log_probs, self._lm)]
        of_context: dict[Context, list[int]] = {}
        for i, context in enumerate(self._contexts.of_all(batch)):
            if batch.answers[i] is None:
                of_context.setdefault(context, []).append(i)
        found: dict[str, list[float | None]] = {}
        for kind in ("random", "natural"):
            best: list[float | None] = [None] * len(batch)
            ids = self._prompts(kind)
            for context, targets in of_context.items() if ids is not None else ():
                assert ids is not None
                states = self._states(kind, ids, context)
                # the partition function is a logit by itself
                kl = kl_table_from_moments(states[:, :1], states[:, 1:], *(x[targets] for x in prepared))
                least = kl.masked_fill(kl.isnan(), torch.inf).amin(0)
                for i, value in zip(targets, least.tolist(), strict=True):
                    best[i] = value if value < torch.inf else None
            found[f"kl_best_{kind}"] = best
        return found

    def _states(self, kind: str, ids: Tensor, context: Context) -> Tensor:
        """Log of the partition function and features after prompts, ``[prompt, 1 + feature]``, float64."""
        if context == self._contexts.default and kind in self._of_default:
            return self._of_default[kind]
        states: dict[int, Tensor] = {}

        def fill(rows: Tensor, log_partition: Tensor, features: Tensor) -> None:
            found = torch.cat([double(log_partition), double(features)], 1)
            states.update(zip(rows.tolist(), found, strict=True))

        ContextStates(self._lm, context, self._micro_batch, self._cache).each(ids, 1, fill, needs_logits=False)
        found = torch.stack([states[i] for i in range(len(ids))])
        if context == self._contexts.default:
            self._of_default[kind] = found
        return found
