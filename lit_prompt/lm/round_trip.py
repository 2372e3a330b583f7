"""Whether the text of a hard prompt gives back its tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lit_prompt.lm.vocabulary import Vocabulary

_MOST_REMEMBERED = 2**20


@dataclass(frozen=True)
class Surroundings:
    """Fixed texts around a prompt, and their tokens."""

    before: str
    before_ids: Sequence[int]  #: what stands in front of every text included
    after_ids: Sequence[int]
    front: bool  #: whether what stands in front of every text stands in front of this one
    whole: Callable[[str], str]  #: the text that a prompt's text stands in


class RoundTrip:
    """The text of token prompts between fixed texts, and the tokens that it gives again.

    A prompt that a user pastes is text. Its tokens come back only if the tokenizer splits the text, between the texts
    around it, where the prompt does; a prompt of several places must survive in all of them.
    """

    def __init__(self, vocabulary: Vocabulary, places: Sequence[Surroundings]) -> None:
        self._vocabulary = vocabulary
        self._places = places
        # without what stands in front: a decoder may trim the space of a first token
        self._own_ids = vocabulary.encode(places[0].before)
        self._start = vocabulary.decode(self._own_ids)
        self._known: dict[tuple[int, ...], bool] = {}

    def text(self, ids: Sequence[int]) -> str:
        """Text of a prompt, as it stands after the text before it in the first place."""
        text = self._vocabulary.decode([*self._own_ids, *ids])
        return text[len(self._start) :] if text.startswith(self._start) else self._vocabulary.decode(list(ids))

    def read_again(self, prompts: Sequence[Sequence[int]], place: int = 0) -> list[list[int]]:
        """Tokens of the prompts' texts in a place, the texts around them and what stands in front included."""
        around = self._places[place]
        return self._vocabulary.encode_starts([around.whole(self.text(ids)) for ids in prompts], around.front)

    def survives(self, prompts: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each prompt's text gives its tokens again, in every place; answers are remembered."""
        keys = [tuple(ids) for ids in prompts]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if len(self._known) + len(new) > _MOST_REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(keys))
        self._known |= dict.fromkeys(new, True)
        for place, around in enumerate(self._places):
            left = [key for key in new if self._known[key]]
            for key, again in zip(left, self.read_again(left, place), strict=True):
                self._known[key] = again == [*around.before_ids, *key, *around.after_ids]
        return [self._known[key] for key in keys]

    def tokens(self, texts: Sequence[str], length: int) -> list[list[int] | None]:
        """The last ``length`` tokens that prompts' texts give in the first place; None for one that gives fewer.

        Other places may give others.
        """
        around = self._places[0]
        found = self._vocabulary.encode_starts([around.whole(text) for text in texts], around.front)
        own = [again[len(around.before_ids) : len(again) - len(around.after_ids)] for again in found]
        return [ids[-length:] if len(ids) >= length else None for ids in own]
