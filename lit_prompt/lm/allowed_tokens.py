"""Which tokens a hard prompt may hold."""

from dataclasses import dataclass, field
from typing import Literal

from lit_prompt.errors import InputError
from lit_prompt.lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class AllowedTokens:
    """Which tokens a hard prompt may hold.

    Attributes:
        characters: ``printable``: tokens of whole characters that can be seen (or are spaces), without the replacement
            character. ``ascii``: printable ASCII characters alone. ``any``: every ordinary token.
        special: also special tokens, such as the end of text, whatever ``characters`` says.
        allow: these tokens alone, by text or id, whatever ``characters`` says; null for all.
        block: not these tokens, by text or id.
    """

    characters: Literal["any", "printable", "ascii"] = "printable"
    special: bool = False
    allow: list[str | int] | None = None
    block: list[str | int] = field(default_factory=list)

    def ids(self, vocabulary: Vocabulary) -> list[int]:
        """The allowed ids of a vocabulary, rising.

        Raises:
            InputError: if a listed token does not exist, or none is left.
        """
        if self.allow is None:
            chosen = {*self._readable(vocabulary), *vocabulary.special_ids}
        else:
            chosen = {vocabulary.checked_id(token, "model.tokens.allow") for token in self.allow}
        if not self.special:
            chosen -= set(vocabulary.special_ids)
        chosen -= {vocabulary.checked_id(token, "model.tokens.block") for token in self.block}
        if not chosen:
            raise InputError("model.tokens leaves no token for a prompt; allow more")
        return sorted(chosen)

    def _readable(self, vocabulary: Vocabulary) -> list[int]:
        if self.characters == "any":
            return vocabulary.ordinary_ids
        printable = {i: text for i, text in vocabulary.whole_texts.items() if text and text.isprintable()}
        if self.characters == "ascii":
            return [i for i, text in printable.items() if text.isascii()]
        return [i for i, text in printable.items() if "\ufffd" not in text]
