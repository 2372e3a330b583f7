"""Token prompts for some targets: what a searcher may ask of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_prompt.functional import kl_from_moments, seed_for
from lit_prompt.functional.rows import pad_rows
from lit_prompt.functional.swaps import best_swaps
from lit_prompt.lm import FrozenLM, PrefixCache
from lit_prompt.lm.round_trip import RoundTrip
from lit_prompt.search.micro_batch import MicroBatch
from lit_prompt.search.prefix_groups import group_by_start
from lit_prompt.search.readable_prompts import ReadablePrompts

# what a part of the candidates may take: their keys and values, or their logits
_BYTES_PER_PART = 2**29
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class Bases:
    """Prompts whose variations are scored.

    Attributes:
        ids: ``[base, length]``.
        cache: keys and values of the text before them and of the prompts; None where the LM keeps none.
        log_probs: log-probability of each token given those before it, ``[base, length]``; None without fluency.
    """

    ids: Tensor
    cache: PrefixCache | None
    log_probs: Tensor | None


class TokenProblem:
    """Targets that share the texts around the prompt, and the scores of token prompts for them.

    The score of a prompt for a target is KL(target || LM) in nats, plus ``fluency`` times the prompt's mean negative
    log-likelihood per token in nats.

    Args:
        lm: the LM.
        before_ids: tokens before the prompt.
        after_ids: tokens after it.
        target_ids: names of the targets, from which random numbers follow.
        log_probs: the targets, ``[target, vocab]``, on the CPU.
        entropy: of the targets in nats, ``[target]``.
        length: tokens of a prompt.
        allowed: ids that a prompt may hold, rising, ``[allowed]``, int64.
        micro_batch: how many prompts go through the LM at once.
        seed: base of the seeds.
        fluency: weight of the prompt's own log-likelihood.
        round_trip: asks whether a prompt survives as text; None where that does not matter.

    Attributes:
        readable: finds the prompts that survive as text.
        forward_passes: prompts that went through the LM for each target, ``[target]``, int64.
    """

    def __init__(
        self,
        lm: FrozenLM,
        before_ids: Sequence[int],
        after_ids: Sequence[int],
        target_ids: Sequence[str],
        log_probs: Tensor,
        entropy: Tensor,
        length: int,
        allowed: Tensor,
        micro_batch: MicroBatch,
        seed: int,
        fluency: float = 0.0,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self.lm = lm
        self.target_ids = list(target_ids)
        self.log_probs = log_probs
        self.length = length
        self.device = lm.device
        self.allowed = allowed.to(self.device)
        self.micro_batch = micro_batch
        self.seed = seed
        self.fluency = fluency
        self.readable = ReadablePrompts(round_trip, self.allowed, length)
        self.forward_passes = torch.zeros(len(self.target_ids), dtype=torch.long)
        self.before = torch.tensor(list(before_ids), dtype=torch.long, device=self.device)
        self.after = torch.tensor(list(after_ids), dtype=torch.long, device=self.device)
        self._moments, self._offset = lm.moments(log_probs)
        self._entropy = entropy.to(self._moments)
        self._caches = lm.caches_prefixes(len(self.before) + length + len(self.after))

    def __len__(self) -> int:
        return len(self.target_ids)

    def generator(self, target: int, *parts: object) -> torch.Generator:
        """Random numbers on the CPU that follow from the seed, a target and whatever else is named."""
        return torch.Generator().manual_seed(seed_for(self.seed, self.target_ids[target], *parts))

    def count(self, targets: Tensor, passes: int | Tensor) -> None:
        """Adds prompts that went through the LM to the count of some targets."""
        self.forward_passes[targets.cpu()] += passes

    def places(self, ids: Tensor) -> Tensor:
        """Where ids stand among the allowed ones, -1 for those that do not: ``[...]`` to ``[...]``."""
        places = torch.searchsorted(self.allowed, ids.contiguous()).clamp_max(len(self.allowed) - 1)
        return torch.where(self.allowed[places] == ids, places, -1)

    def random_ids(self, count: int, generator: torch.Generator) -> Tensor:
        """Random allowed tokens, ``[count]``."""
        return self.allowed[torch.randint(len(self.allowed), (count,), generator=generator).to(self.device)]

    # ---- scores ----

    @torch.no_grad()
    def bases(self, ids: Tensor) -> Bases:
        """Prepares prompts ``[base, length]`` for the scoring of their variations."""
        caches: list[PrefixCache] = []
        log_probs: list[Tensor] = []

        def prepare(part: Tensor) -> None:
            x = ids[part]
            if self._caches:
                caches.append(self.lm.prefix_cache(torch.cat([self.before.expand(len(x), -1), x], 1)))
            if self.fluency:
                log_probs.append(self._token_log_probs(self._features(x), x, -len(self.before), None))

        def restart() -> None:
            caches.clear()
            log_probs.clear()

        self.micro_batch.run(prepare, torch.arange(len(ids), device=self.device), restart)
        return Bases(ids, PrefixCache.joined(caches) if caches else None, torch.cat(log_probs) if log_probs else None)

    @torch.no_grad()
    def scores(
        self, ids: Tensor, own: Tensor | None = None, bases: Bases | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Scores of prompts, for every target or each for its own.

        Args:
            ids: ``[prompt, length]``.
            own: the target that each is scored for, ``[prompt]``; None for all targets.
            bases: prompts that these are variations of; only what changes is then computed.
            rows: which base each varies, ``[prompt]``; needed with ``bases``.

        Returns:
            ``[prompt]``, or ``[prompt, target]`` where ``own`` is None; nats, on the LM's device.
        """
        columns = () if own is not None else (len(self),)
        scores = torch.empty(len(ids), *columns, dtype=self._moments.dtype, device=self.device)
        cache = None if bases is None else bases.cache
        for start, members in self._groups(ids, bases, rows):
            # a token's own likelihood is predicted one position before it
            first = start - 1 if self.fluency else start
            cached = cache is not None and first + len(self.before) > 0 and first >= 0

            def fill(part: Tensor, first: int = first if cached else -len(self.before), cached: bool = cached) -> None:
                x = ids[part]
                known = None
                if cached:
                    assert bases is not None
                    assert bases.cache is not None
                    assert rows is not None
                    rest = torch.cat([x[:, first:], self.after.expand(len(x), -1)], 1)
                    positions = len(self.before) + first
                    features = self.lm.features_after(bases.cache, rows[part], positions, rest, bool(self.fluency))
                    known = None if bases.log_probs is None else bases.log_probs[rows[part]]
                else:
                    features = self._features(x)
                score = self._kl(features[:, -1] if self.fluency else features, None if own is None else own[part])
                if self.fluency:
                    penalty = -self.fluency * self._token_log_probs(features, x, first, known).mean(1)
                    score = score + (penalty if own is not None else penalty.unsqueeze(1))
                scores[part] = score.to(scores)

            for part in members.split(self._rows_per_part(cache, len(self.before) + start)):
                self.micro_batch.run(fill, part, restart=lambda: None)
        return scores

    def _groups(self, ids: Tensor, bases: Bases | None, rows: Tensor | None) -> list[tuple[int, Tensor]]:
        if bases is None or bases.cache is None or rows is None:
            return [(0, torch.arange(len(ids), device=self.device))]
        same = (ids == bases.ids[rows]).long().cumprod(1).sum(1).clamp_max(self.length - 1)
        return [(start, members.to(self.device)) for start, members in group_by_start(same.cpu(), self.length)]

    def _rows_per_part(self, cache: PrefixCache | None, positions: int) -> int:
        row = 8 * self.lm.vocab_size * (self.length if self.fluency else 1)
        if cache is not None:
            row += 2 * cache.bytes_per_position() * positions
        return max(_FEWEST_ROWS, _BYTES_PER_PART // row)

    def _whole(self, ids: Tensor) -> Tensor:
        return torch.cat([self.before.expand(len(ids), -1), ids, self.after.expand(len(ids), -1)], 1)

    def _features(self, ids: Tensor) -> Tensor:
        return self.lm.features(self.lm.embed(self._whole(ids)), every=bool(self.fluency))

    def _kl(self, features: Tensor, own: Tensor | None) -> Tensor:
        logits = self.lm.logits(features)
        if own is not None:
            own = own.to(features.device)
            return kl_from_moments(logits, features, self._moments[own], self._offset[own], self._entropy[own])
        moments, offset, entropy = (x.to(features.device) for x in (self._moments, self._offset, self._entropy))
        return logits.logsumexp(-1).unsqueeze(1) - features @ moments.T - offset - entropy

    def _token_log_probs(self, features: Tensor, ids: Tensor, first: int, known: Tensor | None) -> Tensor:
        """Log-probability of each prompt token given what stands before it, ``[prompt, length]``.

        Args:
            features: after each position from ``first`` on, ``[prompt, position, feature]``.
            ids: ``[prompt, length]``.
            first: counted from the prompt's first token.
            known: the log-probabilities of the tokens up to ``first``, ``[prompt, length]``; None where there are none.
        """
        begin = max(first + 1, 0 if len(self.before) else 1)
        states = features[:, begin - 1 - first : self.length - 1 - first]
        logits = self.lm.logits(states.flatten(0, 1))
        chosen = ids[:, begin:].flatten().to(logits.device)
        found = logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        # without a text before it the first token has no likelihood
        lead = found.new_zeros(len(ids), begin) if known is None else known[:, :begin]
        return torch.cat([lead, found.view(len(ids), self.length - begin)], 1)

    @torch.no_grad()
    def scan(self, sequences: Tensor) -> Tensor:
        """KLs of the prompts that end at each position of long sequences, as if all before it belonged to them.

        Args:
            sequences: ``[sequence, position]``; where a text follows the prompt, exactly as long as a prompt.

        Returns:
            ``[sequence, end, target]``, nats; the first end is that of the first ``length`` tokens. Fluency has no
            part in it.
        """
        ends = sequences.shape[1] - self.length + 1
        kl = torch.empty(len(sequences), ends, len(self), dtype=self._moments.dtype, device=self.device)
        row = 8 * self.lm.vocab_size * ends

        def fill(part: Tensor) -> None:
            features = self.lm.features(self.lm.embed(self._whole(sequences[part])), every=True)[:, -ends:]
            kl[part] = self._kl(features.flatten(0, 1), None).unflatten(0, (len(part), ends)).to(kl)

        for part in torch.arange(len(sequences), device=self.device).split(max(1, _BYTES_PER_PART // row)):
            self.micro_batch.run(fill, part, restart=lambda: None)
        return kl

    # ---- gradients ----

    def embedding_gradient(self, embeddings: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """KLs of soft prompts, each for its own target, and their gradients.

        Args:
            embeddings: ``[prompt, length, embedding]``.
            own: the target that each is for, ``[prompt]``.

        Returns:
            Nats, ``[prompt]``, and ``[prompt, length, embedding]``, float32. Fluency has no part in it.
        """
        kls = torch.empty(len(own), dtype=self._moments.dtype, device=self.device)
        gradient = torch.zeros(embeddings.shape, device=self.device)
        before, after = self.lm.embed(self.before), self.lm.embed(self.after)

        def fill(part: Tensor) -> None:
            x = embeddings[part].detach().requires_grad_()
            around = [text.to(x).expand(len(x), -1, -1) for text in (before, after)]
            with torch.enable_grad():
                kl = self._kl(self.lm.features(torch.cat([around[0], x, around[1]], 1)), own[part])
                (gradient[part],) = torch.autograd.grad(kl.sum(), x)
            kls[part] = kl.detach().to(kls)

        self.micro_batch.run(fill, torch.arange(len(own), device=self.device), restart=lambda: None)
        return kls, gradient

    def swap_choices(self, ids: Tensor, own: Tensor, k: int) -> Tensor:
        """The replacements at each position that promise the largest decrease of the KL, to first order.

        Args:
            ids: ``[prompt, length]``.
            own: the target that each is for, ``[prompt]``.
            k: how many.

        Returns:
            Ids, best first, ``[prompt, length, k]``.
        """
        row = 16 * self.length * len(self.allowed)
        parts = torch.arange(len(own), device=self.device).split(max(1, _BYTES_PER_PART // row))
        chosen = [best_swaps(self.swap_gradient(ids[p], own[p]), self.places(ids[p]), k) for p in parts]
        return self.allowed[torch.cat(chosen)]

    def swap_gradient(self, ids: Tensor, own: Tensor) -> Tensor:
        """First-order change of each prompt's KL when a token becomes another (HotFlip, Ebrahimi et al., 2018).

        Args:
            ids: ``[prompt, length]``.
            own: the target that each is for, ``[prompt]``.

        Returns:
            ``[prompt, length, allowed]`` in nats, up to a constant for each position.
        """
        _, gradient = self.embedding_gradient(self.lm.embed(ids).float(), own)
        return self.first_order(gradient.flatten(0, 1)).unflatten(0, ids.shape)

    def first_order(self, gradient: Tensor) -> Tensor:
        """First-order change of the KL when each allowed token comes to where the KL has a gradient.

        Args:
            gradient: ``[row, embedding]``.

        Returns:
            ``[row, allowed]`` in nats, up to a constant for each row; a row's do not depend on how many there are.
        """
        return (pad_rows(gradient) @ self.lm.embed(self.allowed).float().T)[: len(gradient)]
