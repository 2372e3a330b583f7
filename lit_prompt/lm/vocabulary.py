"""The vocabulary of an LM: token ids, their text, and the way back."""

import hashlib
import json
import re
import reprlib
from functools import cached_property
from typing import Any

from lit_prompt.errors import InputError
from lit_prompt.lm.front import front_ids
from lit_prompt.lm.load import load_tokenizer, readable_errors, source
from lit_prompt.lm.options import LMOptions
from lit_prompt.lm.token_bytes import TokenBytes

# what fills up a vocabulary: [PAD151935], <unused7>, <|extra_3|>
_PLACEHOLDER = re.compile(r"[\[<]\|?\w*(pad|unused|reserved|extra|placeholder)\w*[ _-]?\d+\|?[\]>]", re.IGNORECASE)


class Vocabulary:
    """Token ids, texts and bytes of an LM's output vocabulary.

    Args:
        tokenizer: a ``transformers`` tokenizer.
        size: number of logits of the LM, which may exceed the tokenizer's length (padded vocabularies).
        lm: hub id or local folder of the LM, where it came from one.
        options: how that LM is loaded.
    """

    def __init__(self, tokenizer: Any, size: int, lm: str | None = None, options: LMOptions | None = None) -> None:
        self.tokenizer = tokenizer
        self.size = size
        self.lm = lm
        self.options = options or LMOptions()

    @classmethod
    def load(cls, lm: str, options: LMOptions) -> "Vocabulary":
        """Loads tokenizer and vocabulary size of an LM, given by hub id or local folder, without its weights.

        Raises:
            InputError: if there is no such LM, or no BOS although ``options`` ask for it.
        """
        from transformers import AutoConfig

        tokenizer = load_tokenizer(lm, options)
        with readable_errors(lm, options):
            config = AutoConfig.from_pretrained(**source(lm, options))
        vocabulary = cls(tokenizer, config.get_text_config().vocab_size, lm, options)
        _ = vocabulary.front_ids
        return vocabulary

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over size and token strings, 16 hexadecimal digits."""
        tokens = json.dumps([self.size, sorted(self.tokenizer.get_vocab().items())])
        return hashlib.sha256(tokens.encode()).hexdigest()[:16]

    @cached_property
    def _special(self) -> set[int]:
        # all_special_ids lacks what is special without a role, such as Llama 3's reserved tokens
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return set(self.tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}

    @cached_property
    def _named(self) -> set[int]:
        return {i for i in self.tokenizer.get_vocab().values() if i < self.size}

    @cached_property
    def _placeholders(self) -> set[int]:
        """Ids whose names fill up the vocabulary and are no text that the tokenizer knows."""
        named = ((token, i) for token, i in self.tokenizer.get_vocab().items() if _PLACEHOLDER.fullmatch(token))
        return {i for token, i in named if self._tokens(token) != [i]}

    @cached_property
    def defined_ids(self) -> list[int]:
        """Ids that stand for a token: in the tokenizer, within the LM's logits, no placeholder; special ones too."""
        return sorted(self._named - self._placeholders)

    @cached_property
    def undefined_ids(self) -> list[int]:
        """Ids of logits that stand for no token."""
        return sorted(set(range(self.size)) - set(self.defined_ids))

    @cached_property
    def ordinary_ids(self) -> list[int]:
        """Ids of the tokens that a text can hold: those that stand for one and are not special."""
        return [i for i in self.defined_ids if i not in self._special]

    @cached_property
    def special_ids(self) -> list[int]:
        """Ids of the special tokens within the LM's logits."""
        return sorted(i for i in self._special if i < self.size)

    @cached_property
    def front_ids(self) -> list[int]:
        """Ids of what stands in front of every text, by ``options.bos``; empty where that is nothing."""
        ids = front_ids(self.tokenizer, self.options.bos)
        if any(i >= self.size for i in ids):
            raise InputError(
                f"{self.decode(ids)!r} is to stand in front of every text, but the LM has no embedding for it; set "
                "lm_options.bos to never"
            )
        return ids

    @property
    def front(self) -> str:
        """Text of what stands in front of every text."""
        return self.decode(self.front_ids) if self.front_ids else ""

    @cached_property
    def empty_text_ids(self) -> list[int]:
        """What an LM is given where there is no token at all: what stands in front, else BOS, else EOS."""
        stand_ins = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        return self.front_ids or [int(i) for i in stand_ins if i is not None][:1]

    def repeats_front(self, text: str) -> bool:
        """Whether a text itself begins with what stands in front of it anyway, so that the LM gets it twice."""
        count = len(self.front_ids)
        return count > 0 and self.encode(text.lstrip())[:count] == self.front_ids

    @cached_property
    def _anchor(self) -> int:
        return self.encode("a")[-1]

    def decode(self, ids: list[int]) -> str:
        """Text of a token sequence, special tokens included, nothing cleaned up."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text alone, without what stands in front; special tokens only where the text spells them.

        Raises:
            InputError: if it is no text (it holds half a surrogate pair), or a token of it is unknown to the LM.
        """
        ids = self._tokens(text)
        if beyond := [i for i in ids if i >= self.size]:
            names = ", ".join(f"{name!r} ({i})" for name, i in zip(self._names(beyond), beyond, strict=True))
            raise InputError(
                f"the text {reprlib.repr(text)} holds tokens that the LM does not know: {names}; it has embeddings for "
                f"{self.size} tokens, its tokenizer has {len(self.tokenizer)}"
            )
        return ids

    def _tokens(self, text: str) -> list[int]:
        _utf8(text)
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False)]

    def _names(self, ids: list[int]) -> list[str]:
        return list(self.tokenizer.convert_ids_to_tokens(ids))

    def encode_start(self, text: str, front: bool = True) -> list[int]:
        """Token ids of a text from its very start: what stands in front of it, and its own, as of :meth:`encode`."""
        return [*(self.front_ids if front else ()), *self.encode(text)]

    def encode_after(self, text: str) -> list[int]:
        """Token ids of a text that follows others: as :meth:`encode`, but no space is put in front."""
        if any(token in text for token in self.tokenizer.convert_ids_to_tokens(sorted(self._special))):
            return self.encode(text)
        try:
            ids = self.continuation_ids(text)
        except InputError:  # the tokenizer is of another kind, or the text is none
            ids = []
        return ids or self.encode(text)

    def encode_starts(self, texts: list[str], front: bool = True) -> list[list[int]]:
        """Token ids of many texts, as :meth:`encode_start` gives them, in one call."""
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return [[*(self.front_ids if front else ()), *ids] for ids in encoded]

    @cached_property
    def _spelling(self) -> TokenBytes:
        return TokenBytes(self.tokenizer, self.size, self._special | self._placeholders)

    @property
    def token_bytes(self) -> list[bytes | None]:
        """The bytes that each id adds to a text, ``size`` long.

        None for special and unknown tokens and for ids without a token.

        Raises:
            InputError: if the tokenizer is of a kind whose bytes are not known (WordPiece, say).
        """
        return self._spelling.table

    @property
    def ids_by_bytes(self) -> dict[bytes, int]:
        """The token of each byte string; of several, the tokenizer's own. Raises as ``token_bytes`` does."""
        return self._spelling.ids

    def continuation_ids(self, data: str | bytes) -> list[int]:
        """Token ids of text that continues another text, or of bytes: see :meth:`TokenBytes.encode`.

        Raises:
            InputError: as for ``token_bytes`` and ``encode``.
        """
        return self._spelling.encode(data if isinstance(data, bytes) else _utf8(data))

    @cached_property
    def whole_texts(self) -> dict[int, str]:
        """The texts that ordinary tokens add to others, of those that are no part of a character, by id."""
        try:
            table = self.token_bytes
        except InputError:  # the tokenizer is of a kind whose bytes are not known
            texts = {i: self.text(i) for i in self.ordinary_ids}
            return {i: text for i, text in texts.items() if text != _nameless(i)}
        return {i: text for i in self.ordinary_ids if (text := _whole(table[i])) is not None}

    def text(self, token_id: int) -> str:
        """The text that a token adds after other text (`` yes``, with its space).

        A token that is no text of its own (a byte of a longer character, a padding row) is shown as ``<id 123>``.
        """
        if token_id < len(self.tokenizer):
            before = self.decode([self._anchor])
            text = self.decode([self._anchor, token_id])
            if text.startswith(before) and "\ufffd" not in text:
                return text[len(before) :]
        return _nameless(token_id)

    def token_id(self, text: str) -> int:
        """The one token that adds this text, such as `` yes``, of which the space counts.

        Raises:
            InputError: if the text is not exactly one token; the message shows how it splits.
        """
        ids = self._tokens(text)
        # a special token by its name: an unknown word is the unknown token, too
        names = self._names(ids)
        if len(ids) == 1 and (self.text(ids[0]) == text or (ids[0] in self._special and names == [text])):
            if ids[0] >= self.size:
                raise InputError(f"{text!r} is token {ids[0]}, but the LM has logits for {self.size} tokens only")
            return ids[0]
        try:
            known = self.ids_by_bytes
        except InputError:  # the tokenizer is of another kind
            known = {}
        # a tokenizer that puts a space before every text reaches a token without one only by its bytes
        if text.encode() in known:
            return known[text.encode()]
        pieces = [self.text(i) for i in ids]
        hint = ""
        if len(ids) == 1:
            hint = f"; the nearest token is {pieces[0]!r}"
        elif f" {text}".encode() in known:
            hint = f"; with a space before it, {' ' + text!r}, it is one token"
        raise InputError(f"{text!r} is not exactly one token of this LM: it splits into {pieces} (ids {ids}){hint}")

    def checked_id(self, token: int | str, where: str) -> int:
        """Id of a token that a user named by text or id.

        Raises:
            InputError: if there is no such token; it names ``where`` the user did so.
        """
        if isinstance(token, str):
            try:
                return self.token_id(token)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
        if not 0 <= token < self.size:
            raise InputError(f"{where}: token id {token} is not among 0 to {self.size - 1}, the ids of this LM")
        if token not in self._named:
            raise InputError(
                f"{where}: token id {token} stands for no token: the LM has {self.size} logits, its tokenizer "
                f"{len(self._named)} tokens"
            )
        return token


def _nameless(token_id: int) -> str:
    return f"<id {token_id}>"


def _whole(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r} is no text: it holds half a surrogate pair; write the whole character") from error
