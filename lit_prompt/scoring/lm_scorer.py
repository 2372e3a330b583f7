"""Scores and gradients of prompts from an LM whose weights are at hand."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_prompt.lm import FrozenLM, LMCache
from lit_prompt.objectives import Objective
from lit_prompt.scoring.context_states import ContextStates
from lit_prompt.scoring.micro_batch import MicroBatch
from lit_prompt.scoring.prompted_lm import Bases, Part, PromptedLM
from lit_prompt.scoring.scorer import Scorer
from lit_prompt.scoring.slots import Slots


class LMScorer(Scorer):
    """Scores soft and token prompts with an LM.

    The score of a prompt is the objective in nats, plus, for token prompts, ``fluency`` times the prompt's mean
    negative log-likelihood per token in nats.

    Args:
        lm: the LM.
        slots: what is searched.
        log_probs: the targets, ``[target, vocab]``, on the CPU.
        length: positions of a prompt.
        objective: what is minimised.
        micro_batch: how many prompts go through the LM at once.
        fluency: weight of the prompt's own log-likelihood.
    """

    def __init__(
        self,
        lm: FrozenLM,
        slots: Slots,
        log_probs: Tensor,
        length: int,
        objective: Objective,
        micro_batch: MicroBatch,
        fluency: float = 0.0,
    ) -> None:
        self.lm = lm
        self.slots = slots
        self.length = length
        self.micro_batch = micro_batch
        self._objective = objective
        self._fluency = fluency
        self._prepared = objective.prepare(log_probs, lm)
        self._prompted = PromptedLM(lm, [slots.context(slot) for slot in range(len(slots))], length, micro_batch)

    def take_passes(self) -> Int[Tensor, " slot"]:
        """Forward passes made for each slot since they were last taken."""
        passes, self._prompted.passes = self._prompted.passes, torch.zeros_like(self._prompted.passes)
        return passes

    # ---- scores ----

    def bases(self, ids: Int[Tensor, "base length"], slots: Int[Tensor, " base"]) -> Bases:
        """Prepares token prompts ``[base, length]`` for the scoring of their variations: only what changes is computed.

        Args:
            ids: ``[base, length]``.
            slots: of each, ``[base]``.
        """
        found = self._prompted.bases(ids, slots)
        self._prompted.count(slots)
        if not self._fluency:
            return found
        log_probs = torch.empty(ids.shape, device=self.lm.head_device)

        def fill(part: Part) -> None:
            log_probs[part.rows.to(log_probs.device)] = self._token_log_probs(part, ids, None).to(log_probs)

        with torch.no_grad():
            self._prompted.each(ids, slots, fill, every=True, most_rows=self._prompted.most_rows(self.length))
        return Bases(found.ids, found.caches, found.places, log_probs)

    def scores(
        self,
        prompts: Tensor,
        slots: Int[Tensor, " prompt"],
        bases: Bases | None = None,
        base: Int[Tensor, " prompt"] | None = None,
    ) -> Float[Tensor, " prompt"]:
        """Scores of prompts, each for its slot; see :class:`Scorer`.

        Args:
            prompts: token ids ``[prompt, length]``, or embeddings ``[prompt, length, embedding]``.
            slots: ``[prompt]``.
            bases: token prompts that these are variations of.
            base: which of them each varies, ``[prompt]``; needed with ``bases``.
        """
        targets = self.slots.targets[slots]

        def score(part: Part, logits: Tensor, features: Tensor) -> Tensor:
            return self._objective.pairs(logits, features, self._prepared, targets[part.rows].to(logits.device))

        return self._scored(prompts, slots, bases, base, score, ())

    def table(
        self,
        prompts: Tensor,
        slots: Int[Tensor, " prompt"],
        bases: Bases | None = None,
        base: Int[Tensor, " prompt"] | None = None,
    ) -> Float[Tensor, "prompt slot"]:
        """Scores of prompts for every slot of the same group; arguments as of :meth:`scores`."""

        def score(part: Part, logits: Tensor, features: Tensor) -> Tensor:
            return self._objective.table(logits, features, self._prepared)

        by_target = self._scored(prompts, slots, bases, base, score, (len(self.slots.target_ids),))
        other = self.slots.group[slots].unsqueeze(1) != self.slots.group
        return by_target[:, self.slots.targets].masked_fill(other, torch.inf)

    @torch.no_grad()
    def _scored(
        self,
        prompts: Tensor,
        slots: Tensor,
        bases: Bases | None,
        base: Tensor | None,
        score: Any,
        columns: tuple[int, ...],
    ) -> Tensor:
        fluency = 0.0 if prompts.is_floating_point() else self._fluency
        found = torch.empty(len(prompts), *columns, device=self.lm.head_device, dtype=self.lm.score_dtype)

        def fill(part: Part) -> None:
            features = part.features[:, -1] if fluency else part.features
            scores = score(part, self.lm.logits(features), features)
            if fluency:
                known = (
                    None
                    if bases is None or base is None or bases.log_probs is None
                    else bases.log_probs[base[part.rows].to(bases.log_probs.device)]
                )
                penalty = -fluency * self._token_log_probs(part, prompts, known).mean(1)
                scores = scores + (penalty.unsqueeze(1) if columns else penalty)
            found[part.rows.to(found.device)] = scores.to(found)

        every = bool(fluency)
        if bases is None or base is None:
            self._prompted.each(prompts, slots, fill, every, self._prompted.most_rows(self.length if every else 1))
        else:
            self._prompted.each_variation(prompts, slots, bases, base, fill, every)
        self._prompted.count(slots)
        return found.cpu()

    def _token_log_probs(self, part: Part, ids: Tensor, known: Tensor | None) -> Tensor:
        """Log-probability of each prompt token given what stands before it, ``[row, length]``.

        Zero for a first token that nothing stands before, and what is known for tokens that were not computed again.
        """
        places = torch.arange(self.length)
        # where the state stands that predicts each token
        columns = part.start.unsqueeze(1) + places - 1 - part.first
        predicted = (columns >= 0) & ((places > 0) | part.leads.unsqueeze(1))
        device = part.features.device
        begin = int(predicted.any(0).long().argmax()) if bool(predicted.any()) else self.length
        rows = torch.arange(len(columns)).unsqueeze(1).to(device)
        states = part.features[rows, columns[:, begin:].clamp_min(0).to(device)]
        logits = self.lm.logits(states.flatten(0, 1))
        chosen = ids[part.rows][:, begin:].flatten().to(logits.device)
        found = logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        before = found.new_zeros(len(columns), self.length) if known is None else known.to(found)
        again = torch.cat([before[:, :begin], found.view(len(columns), -1)], 1)
        return torch.where(predicted.to(device), again, before)

    @torch.no_grad()
    def scan(
        self,
        sequences: Int[Tensor, "sequence position"],
        slots: Int[Tensor, " slot"],
        shared: bool,
        cache: LMCache | None = None,
    ) -> Float[Tensor, "sequence end slot"]:
        """Scores of the prompts that end at each position of long sequences, as if all before it belonged to them.

        Args:
            sequences: token ids ``[sequence, position]``; where a text follows the prompt, exactly as long as a prompt.
            slots: for which they are scored, of one group, ``[slot]``.
            shared: whether the slots share the passes, or each is to count them all.
            cache: has the LM's states from before, or gets them; scores and counted passes are the same without.

        Returns:
            ``[sequence, end, slot]``, nats; the first end is that of the first ``length`` tokens. Fluency has no part
            in it.
        """
        ends = sequences.shape[1] - self.length + 1
        states = ContextStates(self.lm, self.slots.context(int(slots[0])), self.micro_batch, cache)
        found = torch.empty(len(sequences), ends, len(slots), device=self.lm.head_device, dtype=self.lm.score_dtype)
        targets = self.slots.targets[slots].to(found.device)

        def fill(rows: Tensor, logits: Tensor, features: Tensor) -> None:
            table = self._objective.table(logits, features, self._prepared)[:, targets]
            found[rows.to(found.device)] = table.unflatten(0, (len(rows), ends)).to(found)

        states.each(sequences, ends, fill, self._objective.needs_logits)
        self._prompted.passes[slots] += -(-sequences.numel() // self.length // (len(slots) if shared else 1))
        return found.cpu()

    # ---- gradients ----

    def gradient(
        self, embeddings: Float[Tensor, "prompt length embedding"], slots: Int[Tensor, " prompt"]
    ) -> tuple[Float[Tensor, " prompt"], Float[Tensor, "prompt length embedding"]]:
        """Scores of soft prompts, each for its slot, and their gradients.

        Args:
            embeddings: ``[prompt, length, embedding]``, on the LM's device.
            slots: ``[prompt]``.

        Returns:
            Nats, ``[prompt]``, and ``[prompt, length, embedding]``, float32; on the LM's device, so that nothing waits
            for it.
        """
        found = torch.empty(len(slots), dtype=self.lm.score_dtype, device=embeddings.device)
        gradient = torch.zeros_like(embeddings)
        targets = self.slots.targets[slots]

        def fill(part: Part) -> None:
            logits = self.lm.logits(part.features)
            scores = self._objective.pairs(logits, part.features, self._prepared, targets[part.rows].to(logits.device))
            rows = part.rows.to(found.device)
            (gradient[rows],) = torch.autograd.grad(scores.sum(), part.prompts)
            found[rows] = scores.detach().to(found)

        with torch.enable_grad():
            self._prompted.each(embeddings.detach(), slots, fill)
        self._prompted.count(slots)
        return found, gradient
