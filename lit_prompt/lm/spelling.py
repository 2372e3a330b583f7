"""How a tokenizer writes bytes as the characters of its tokens."""

import re
from dataclasses import dataclass
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# byte-level BPE writes a printable byte as itself, each other one, in order, as a character from U+0100 on
_ALPHABET = sorted(ByteLevel.alphabet())
_BYTES = {c: ord(c) for c in _ALPHABET if ord(c) < 0x100}
_BYTES |= zip(_ALPHABET[len(_BYTES) :], sorted({*range(0x100)} - {*_BYTES.values()}), strict=True)
_CHARACTERS = {b: c for c, b in _BYTES.items()}


@dataclass(frozen=True)
class Spelling:
    """How a tokenizer writes bytes as the characters of its tokens."""

    marker: str  #: stands for a space (U+2581 as a rule); empty for byte-level BPE, whose characters are all bytes
    byte_fallback: bool = False  #: whether ``<0x0A>`` stands for the byte 10

    @classmethod
    def read(cls, description: dict[str, Any]) -> "Spelling | None":
        """Reads it from a tokenizer's description (``tokenizer.json``); None where it is none of the known ones.

        The decoder tells, which is what makes text of tokens.
        """
        model, decoder = description["model"], steps(description["decoder"])
        # marks within words, which no byte of a text stands for; characters of a text that are bytes already
        if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
            return None
        if any(step["type"] == "ByteLevel" for step in steps(description["normalizer"])):
            return None
        kinds = {step["type"] for step in decoder}
        if "ByteLevel" in kinds:
            return cls("")
        byte_fallback = bool(model.get("byte_fallback")) or "ByteFallback" in kinds
        for step in decoder:
            if step["type"] == "Metaspace":
                return cls(step["replacement"], byte_fallback)
            if step["type"] == "Replace" and step["content"] == " " and "String" in step["pattern"]:
                return cls(step["pattern"]["String"], byte_fallback)
        return None

    @property
    def byte_level(self) -> bool:
        """Whether every character stands for a byte."""
        return not self.marker

    def bytes_of(self, token: str) -> bytes:
        """The bytes that a token stands for."""
        if self.byte_level:
            # as the decoder does: a token with any other character is a text
            return bytes(_BYTES[c] for c in token) if all(c in _BYTES for c in token) else token.encode()
        if self.byte_fallback and (found := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(found[1], 16)])
        return token.replace(self.marker, " ").encode()

    def characters_of(self, data: bytes) -> str:
        """The characters that stand for bytes, in byte-level BPE."""
        return "".join(_CHARACTERS[b] for b in data)

    def text_bytes(self, text: str) -> bytes:
        """What tokens can keep of a text: a marker in it is a space to them."""
        return (text.replace(self.marker, " ") if self.marker else text).encode()


def steps(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, sequences opened."""
    if component is None:
        return []
    for key in ("normalizers", "pretokenizers", "decoders"):
        if key in component:
            return [step for part in component[key] for step in steps(part)]
    return [component]
