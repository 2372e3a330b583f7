"""Whether the text of a hard prompt gives back its tokens."""

from collections.abc import Sequence

from lit_prompt.lm.vocabulary import Vocabulary

_MOST_REMEMBERED = 2**20


class RoundTrip:
    """The text of token prompts between fixed texts, and the tokens that it gives again.

    A prompt that a user pastes is text. Its tokens come back only if the tokenizer splits the text, between the texts
    ``before`` and ``after`` it, where the prompt does.
    """

    def __init__(self, vocabulary: Vocabulary, before: str, after: str) -> None:
        self._vocabulary = vocabulary
        self._before, self._after = before, after
        self._before_ids, self._after_ids = vocabulary.encode_start(before), vocabulary.encode_after(after)
        # without what stands in front: a decoder may trim the space of a first token
        self._own_ids = vocabulary.encode(before)
        self._start = vocabulary.decode(self._own_ids)
        self._known: dict[tuple[int, ...], bool] = {}

    def text(self, ids: Sequence[int]) -> str:
        """Text of a prompt, as it stands after the text before it."""
        text = self._vocabulary.decode([*self._own_ids, *ids])
        return text[len(self._start) :] if text.startswith(self._start) else self._vocabulary.decode(list(ids))

    def read_again(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Tokens of the prompts' texts in context, the texts around them and what stands in front included."""
        return self._vocabulary.encode_starts([f"{self._before}{self.text(ids)}{self._after}" for ids in prompts])

    def survives(self, prompts: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each prompt's text gives its tokens again; answers are remembered."""
        keys = [tuple(ids) for ids in prompts]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if len(self._known) + len(new) > _MOST_REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(keys))
        for key, again in zip(new, self.read_again(new), strict=True):
            self._known[key] = again == [*self._before_ids, *key, *self._after_ids]
        return [self._known[key] for key in keys]

    def repaired(self, ids: Sequence[int], length: int) -> list[int] | None:
        """The last ``length`` tokens that the text of some tokens gives, in context; None where there are fewer."""
        (again,) = self.read_again([ids])
        own = again[len(self._before_ids) : len(again) - len(self._after_ids)]
        return own[-length:] if len(own) >= length else None
