"""Targets over one LM's vocabulary, carried over to another's."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from lit_prompt.data.answer_tokens import AnswerTokens, first_beginning
from lit_prompt.data.answers import Answers
from lit_prompt.data.named_answers import NamedAnswers
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional.precision import double
from lit_prompt.lm import Vocabulary, VocabularyMap

_KEPT = ("partner_of", "before", "after", "chat", "task", "weight", "held_out")
#: Probability that a target may lose on the way.
MOST_LOST = 0.01


class CarriedTargets:
    """Carries targets over by what their tokens say.

    Answers are spelled anew by their texts, in their context. A token that a sparse target names becomes the token of
    the same text, or the first one of that text; two names that share it cannot be told apart, so that there is no such
    target. A dense target goes token by token, bytes to the same bytes. Between two sizes of one tokenizer's vocabulary
    ids stay as they are. At most :data:`MOST_LOST` of the mass may have nowhere to go; the rest is renormalised, with a
    note. A chat stays the same messages.

    Args:
        source: the vocabulary that the targets are over, or the answers that they name.
        to: the one that they are to be over.
    """

    def __init__(self, source: Vocabulary | NamedAnswers, to: Vocabulary) -> None:
        self._source = source
        self._to = to

    def __call__(self, targets: Iterable[Target]) -> Iterator[Target | Rejected]:
        """The targets over the other vocabulary, or why they cannot be."""
        for target in targets:
            try:
                after = self._answer_tokens.after(target.texts)
            except InputError as error:
                yield Rejected(target.target_id, target.family, str(error))
                continue
            if target.answers is not None:
                yield self._by_answer(target, target.answers, after)
            else:
                yield self._by_token(target) if target.token_ids is None else self._by_name(target)

    @cached_property
    def _same_bytes(self) -> VocabularyMap:
        assert isinstance(self._source, Vocabulary)
        return VocabularyMap(self._source, self._to, "shared_tokens")

    @cached_property
    def _first_pieces(self) -> VocabularyMap:
        assert isinstance(self._source, Vocabulary)
        return VocabularyMap(self._source, self._to, "first_piece")

    @cached_property
    def _answer_tokens(self) -> AnswerTokens:
        return AnswerTokens(self._to)

    def _by_answer(self, target: Target, answers: Answers, after: str) -> Target | Rejected:
        try:
            ids = [self._answer_tokens(text, after, answers.end) for text in answers.texts]
        except InputError as error:
            return Rejected(target.target_id, target.family, f"{self._to.lm}: {error}")
        if (pair := first_beginning(ids)) is not None:
            short, long = (answers.texts[i] for i in pair)
            reason = f"the tokens of {short!r} begin those of {long!r} for {self._to.lm}"
            return Rejected(target.target_id, target.family, reason)
        carried = Target.from_answers(
            target.target_id, target.family, replace(answers, ids=ids), self._to.size, target.seed
        )
        return _completed(carried, target, 0.0, {})

    def _by_token(self, target: Target) -> Target | Rejected:
        mapped = self._same_bytes.map(target.log_probs.exp().unsqueeze(0))
        if (lost := float(mapped.lost[0])) > MOST_LOST:
            return self._rejected(target, lost, "tokens")
        carried = Target.from_logits(target.target_id, target.family, mapped.probs[0].log(), target.seed)
        return _completed(carried, target, lost, {})

    def _by_name(self, target: Target) -> Target | Rejected:
        assert target.token_ids is not None
        assert isinstance(self._source, Vocabulary)
        answers = {token_id: text for text, token_id in target.metadata.get("first_tokens", {}).items()}
        weights: dict[int, float] = {}
        names: dict[int, str] = {}
        lost = 0.0
        for token_id, weight in zip(target.token_ids.tolist(), double(target.log_probs).exp().tolist(), strict=True):
            if weight == 0.0:
                continue
            name = answers.get(token_id, self._source.text(token_id))
            to = self._first_token(token_id, answers.get(token_id))
            if to is None:
                lost += weight
            elif to in weights:
                shared = f"{names[to]!r} and {name!r} begin with the same token of {self._to.lm}"
                return Rejected(target.target_id, target.family, f"{shared}, {self._to.text(to)!r}")
            else:
                weights[to], names[to] = weight, name
        if lost > MOST_LOST:
            return self._rejected(target, lost, "names")
        rest = max(0.0, 1.0 - lost - sum(weights.values())) if target.rest_log_prob > -torch.inf else 0.0
        # of what is spread evenly ids that stand for no token get nothing
        every = weights | {i: 0.0 for i in self._to.undefined_ids if rest and i not in weights}
        carried = Target.from_weights(
            target.target_id, target.family, torch.tensor([*every]),
            torch.tensor([*every.values()], dtype=torch.float64), self._to.size, rest, target.seed,
        )  # fmt: skip
        longer = {name: to for to, name in names.items() if self._to.text(to) != name}
        return _completed(carried, target, lost, longer)

    def _first_token(self, token_id: int, answer: str | None) -> int | None:
        if answer is not None:
            return next(iter(self._to.continuation_ids(answer)), None)
        to = int(self._first_pieces.token_ids[token_id])
        return None if to < 0 else to

    def _rejected(self, target: Target, lost: float, where: str) -> Rejected:
        lacking = f"{100 * lost:.3g} % of its mass is on {where} that {self._to.lm} does not have"
        return Rejected(target.target_id, target.family, f"{lacking}; at most {100 * MOST_LOST:g} % may be lost")


def _completed(carried: Target, target: Target, lost: float, longer: dict[str, int]) -> Target:
    """What a carried target keeps of its own, and what is to be known of it; ``longer`` names have several tokens."""
    metadata: dict[str, Any] = {"first_tokens": longer} if longer else {}
    notes = [f"first tokens stand for {', '.join(map(repr, longer))}"] if longer else []
    notes += [f"{100 * lost:.2g} % of its mass was lost"] if lost > 0 else []
    metadata |= {"note": "; ".join(notes)} if notes else {}
    own = {name: getattr(target, name) for name in _KEPT}
    return replace(carried, metadata=metadata, **own)
