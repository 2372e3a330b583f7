"""Which tokens a hard prompt may hold."""

from dataclasses import dataclass, field
from typing import Literal

from lit_prompt.errors import InputError
from lit_prompt.lm.vocabulary import Vocabulary


@dataclass(frozen=True)
class AllowedTokens:
    """Which tokens a hard prompt may hold.

    Attributes:
        characters: ``any``: every ordinary token. ``printable``: tokens of whole characters that can be printed (or
            are spaces). ``ascii``: printable ASCII characters alone.
        special: also special tokens, such as the end of text.
        allow: these tokens alone, by text or id; null for all.
        block: not these tokens, by text or id.
    """

    characters: Literal["any", "printable", "ascii"] = "any"
    special: bool = False
    allow: list[str | int] | None = None
    block: list[str | int] = field(default_factory=list)

    def ids(self, vocabulary: Vocabulary) -> list[int]:
        """The allowed ids of a vocabulary, rising.

        Raises:
            InputError: if a listed token does not exist, or none is left.
        """
        if self.allow is None:
            chosen = {*vocabulary.ordinary_ids, *vocabulary.special_ids}
        else:
            chosen = {vocabulary.checked_id(token, "model.tokens.allow") for token in self.allow}
        if not self.special:
            chosen -= set(vocabulary.special_ids)
        chosen -= {vocabulary.checked_id(token, "model.tokens.block") for token in self.block}
        if self.characters != "any":
            chosen = {i for i in chosen if self._is_readable(vocabulary.token_bytes[i])}
        if not chosen:
            raise InputError("model.tokens leaves no token for a prompt; allow more")
        return sorted(chosen)

    def _is_readable(self, data: bytes | None) -> bool:
        try:
            text = (data or b"").decode()
        except UnicodeDecodeError:  # a part of a character
            return False
        return bool(text) and text.isprintable() and (self.characters == "printable" or text.isascii())
