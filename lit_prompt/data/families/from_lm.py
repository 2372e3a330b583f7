"""Targets that a language model makes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lit_prompt.data.contexts import ContextCut, choose_contexts
from lit_prompt.data.families.base import TargetFamily
from lit_prompt.data.families.partners import outlier_targets, random_targets, with_partners
from lit_prompt.data.target import Rejected, Target
from lit_prompt.data.texts import TextSource
from lit_prompt.embedded import embedded
from lit_prompt.errors import InputError
from lit_prompt.functional import entropy, normalize_log_probs
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary, VocabularyMap
from lit_prompt.lm.sample import sample_text

_TRIES_PER_CONTEXT = 20
_TOKENS_PER_WORD = 3


@dataclass
class FromLM(TargetFamily):
    """Next-token distributions of a language model after natural contexts.

    The *LM-made targets* of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244). The LM may be the
    searched one, another one with its tokenizer, or one with a tokenizer of its own, whose distributions are then
    carried over to the searched LM's vocabulary (see :class:`lit_prompt.lm.VocabularyMap`). Contexts are texts, so that
    the same settings give every LM the same ones.

    Attributes:
        lm: hub id or local folder of the LM that makes the targets; null for the searched LM itself.
        lm_options: how it is loaded.
        contexts: where contexts come from; null for texts sampled from the LM that makes the targets.
        cut: how contexts are cut from texts.
        count: number of targets.
        temperature: the LM's logits are divided by it.
        vocabulary_map: how a distribution over another vocabulary is carried over. ``shared_tokens``: tokens of the
            same bytes keep their mass, the rest is renormalised. ``first_piece``: a token's mass goes to the first of
            our tokens in the encoding of its bytes. The mass that is lost or moved is reported with each target.
        top_k: keep the k most likely tokens alone (a sparse target); null for all.
        partners: make a random and an outlier target of the same entropy for each target.
        outlier_tokens: number of outlier tokens of the outlier partners.
        name: family name in ids, tables and plots.
        seed: base of the seeds of contexts and partners.
    """

    lm: str | None = None
    lm_options: LMOptions | None = None
    contexts: TextSource | None = None
    cut: ContextCut = ContextCut()
    count: int = 64
    temperature: float = 1.0
    vocabulary_map: Literal["shared_tokens", "first_piece"] = "shared_tokens"
    top_k: int | None = None
    partners: bool = True
    outlier_tokens: int = 5
    name: str = "lm"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"family {self.name}: count is {self.count}; it must be at least 1")
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"family {self.name}: temperature {self.temperature:g} is not a positive number")

    def targets(self, vocabulary: Vocabulary) -> Iterator[Target | Rejected]:
        """Yields a target for each context, followed by its partners."""
        most = len(vocabulary.defined_ids)
        if self.top_k is not None and not 1 <= self.top_k <= most:
            raise InputError(f"family {self.name}: top_k {self.top_k} is not among 1 to {most} tokens")
        made = self._made(vocabulary)
        if not self.partners:
            return made
        makers = {
            "random": partial(random_targets, vocabulary=vocabulary),
            "outlier": partial(outlier_targets, vocabulary=vocabulary, k=self.outlier_tokens),
        }
        return with_partners(made, makers)

    @torch.no_grad()
    def _made(self, vocabulary: Vocabulary) -> Iterator[Target | Rejected]:
        path, options = self.lm, self.lm_options or LMOptions()
        if path is None:
            if vocabulary.lm is None:
                raise InputError(f"family {self.name}: name the LM that makes the targets with init_args.lm")
            path, options = vocabulary.lm, vocabulary.options
        path = embedded(path)
        theirs = Vocabulary.load(path, options)
        carry = VocabularyMap(theirs, vocabulary, self.vocabulary_map)
        lm = FrozenLM.load(path, options)
        about = {"source_lm": path, "source_fingerprint": lm.fingerprint, "temperature": self.temperature}
        about |= {"source_in_front": theirs.front} if theirs.front else {}
        for number, context in enumerate(self._contexts(lm, theirs)):
            log_q = self._next_token(lm, theirs, context)
            probs, lost, moved = (x[0] for x in carry.map(log_q.exp()))
            target_id, seed = f"{self.name}/{number}", self.target_seed("partners", number)
            if bool(probs.isnan().any()):
                reason = f"none of the mass of {path} has a token here; context {context!r}"
                yield Rejected(target_id, self.name, reason)
                continue
            facts: dict[str, Any] = {**about, "context": context, "source_entropy": float(entropy(log_q)[0])}
            facts |= {"mass_lost": float(lost), "mass_moved": float(moved)}
            if theirs.repeats_front(context):
                facts["note"] = f"its context begins with {theirs.front!r}, which stands in front of it already"
            yield self._target(target_id, probs, seed, facts)

    def _contexts(self, lm: FrozenLM, theirs: Vocabulary) -> Iterator[str]:
        if self.contexts is not None:
            yield from choose_contexts(self.contexts, self.cut, self.count, self.seed)
            return
        found, tokens = 0, _TOKENS_PER_WORD * self.cut.max_words
        for attempt in range(_TRIES_PER_CONTEXT * self.count):
            text = sample_text(lm.model, theirs, tokens, self.target_seed("text", attempt))
            for context in self.cut.contexts(text, self.target_seed("cut", attempt)):
                yield context
                found += 1
                if found == self.count:
                    return
        raise InputError(
            f"family {self.name}: {theirs.lm} gave {found} texts of more than {self.cut.min_words} words, {self.count} "
            "are wanted; lower cut.min_words"
        )

    def _next_token(self, lm: FrozenLM, theirs: Vocabulary, context: str) -> Tensor:
        """Log-probabilities after a context, ``[1, vocab]``, float64, on the CPU."""
        ids = theirs.encode_start(context)
        if lm.max_length is not None and len(ids) > lm.max_length:
            raise InputError(
                f"family {self.name}: a context has {len(ids)} tokens, {theirs.lm} takes {lm.max_length}; lower "
                "cut.max_words"
            )
        # one context at a time, so that rounding does not depend on others
        logits = lm.next_token_logits(lm.embed(torch.tensor([ids])))
        return normalize_log_probs(double(logits) / self.temperature)

    def _target(self, target_id: str, probs: Tensor, seed: int, facts: dict[str, Any]) -> Target:
        if self.top_k is None:
            return Target.from_logits(target_id, self.name, probs.log(), seed, **facts)
        weights, ids = probs.topk(self.top_k)
        facts["mass_cut"] = max(0.0, 1.0 - float(weights.sum()))
        return Target.from_weights(target_id, self.name, ids, weights, len(probs), seed=seed, **facts)
