"""Token ids of whole answers, as they stand in their context."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from lit_prompt.data.target import Texts
from lit_prompt.errors import InputError
from lit_prompt.lm import ChatTexts, Vocabulary


class AnswerTokens:
    """Token ids of answers of any length.

    They are those that the tokenizer gives an answer after the text between the prompt and it. Where that text's own
    tokens would be others then (a space at its end that belongs to the answer's first word, say), or there is none,
    they are those of a text that continues another.

    Args:
        vocabulary: of the LM.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._before_answer = lru_cache(256)(vocabulary.encode_after)

    def after(self, texts: Texts) -> str:
        """The text between a target's prompt and its answers; empty where it is the module's, which is not known here.

        Raises:
            InputError: if the tokenizer's template does not take the target's chat.
        """
        return (texts.after or "") if texts.chat is None else ChatTexts(self._vocabulary, texts.chat).after

    def __call__(self, answer: str, after: str, end: str | bool | None = None) -> list[int]:
        """Token ids of an answer with what ends it.

        Args:
            answer: its text.
            after: the text before it, as of :meth:`after`.
            end: a text, the name of a special token, or true for the LM's end token.

        Raises:
            InputError: if the LM's tokens cannot spell it, or there is no end token.
        """
        text, ids = self._ending(end)
        if not answer:
            raise InputError("an answer is empty")
        found = self._in_context(answer + text, after) or self._vocabulary.continuation_ids(answer + text)
        if not found:
            raise InputError(f"the answer {answer + text!r} cannot be spelled by this LM's tokens")
        return found + ids

    def _ending(self, end: str | bool | None) -> tuple[str, list[int]]:
        """What ends an answer: a text, or a token."""
        if end is None or end is False:
            return "", []
        vocabulary = self._vocabulary
        token_id = vocabulary.tokenizer.eos_token_id if end is True else vocabulary.tokenizer.get_vocab().get(end)
        if token_id in vocabulary.special_ids:
            return "", [int(token_id)]
        if end is True:
            raise InputError('"end" is true, but the LM has no end token; give the text that ends an answer')
        return end, []

    def _in_context(self, text: str, after: str) -> list[int]:
        """Tokens of a text after another one; empty where that one's tokens change, or the text is not spelled."""
        if not after:
            return []
        try:
            start, whole = self._before_answer(after), self._vocabulary.encode_after(after + text)
        except InputError:  # a token of it has no logit
            return []
        rest = whole[len(start) :]
        return rest if whole[: len(start)] == start and self._is_text(rest) else []

    def _is_text(self, ids: list[int]) -> bool:
        try:
            table = self._vocabulary.token_bytes
        except InputError:  # the tokenizer is of another kind
            return self._vocabulary.tokenizer.unk_token_id not in ids
        return all(table[i] is not None for i in ids)


def first_beginning(answers: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """Positions of an answer and of another one that begins with all of its tokens, or is the same; None if none is."""
    order = sorted(range(len(answers)), key=lambda i: list(answers[i]))
    for short, long in pairwise(order):
        if list(answers[long][: len(answers[short])]) == list(answers[short]):
            return short, long
    return None
