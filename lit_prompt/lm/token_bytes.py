"""The bytes that tokens add to a text, and the tokens that spell given bytes."""

import json
import re
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from lit_prompt.errors import InputError
from lit_prompt.lm.spelling import Spelling, steps

# what Python's surrogateescape makes of bytes that are not valid UTF-8
_INVALID = re.compile("([\udc80-\udcff])")


class TokenBytes:
    """What tokens are as bytes, whichever way their tokenizer writes them.

    Tokens of different vocabularies can be compared as bytes alone: byte-level BPE (GPT-2, Llama 3, Qwen) writes
    `` yes`` as ``Ġyes``, SentencePiece and Unigram as ``▁yes``, and where there is byte fallback (Llama 2, Mistral,
    Gemma) a character that is no token of its own is written as bytes, such as ``<0xE4>``.

    Built from a ``transformers`` tokenizer, the number of logits of its LM, and the ids of special tokens and of
    placeholders, which stand for no bytes.

    Raises:
        InputError: if the tokenizer writes its tokens in another way (WordPiece, end-of-word marks, its own program).
    """

    def __init__(self, tokenizer: Any, size: int, special: set[int]) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        description = None if backend is None else json.loads(backend.to_str())
        spelling = None if description is None else Spelling.read(description)
        if backend is None or description is None or spelling is None:
            raise InputError(
                f"the tokenizer of {tokenizer.name_or_path or 'the LM'} writes its tokens in a way whose bytes are not "
                "known; use an LM whose tokenizer is byte-level BPE, SentencePiece or Unigram with a marker for spaces"
            )
        self._spelling = spelling
        self._inner = _inner_tokenizer(backend, description)
        # an unknown token stands for anything, declared special or not
        model = description["model"]
        wordless = special | {model.get("unk_id"), backend.token_to_id(model.get("unk_token") or "")}
        # tokens that were added to byte-level BPE are texts; a marker is a space to the decoder in added tokens, too
        texts = {
            token["id"]
            for token in description["added_tokens"]
            if spelling.byte_level and backend.model.token_to_id(token["content"]) is None
        }
        #: bytes of each id, ``size`` long; None for special and unknown tokens and for ids without a token
        self.table: list[bytes | None] = [None] * size
        for token, token_id in tokenizer.get_vocab().items():
            if token_id < size and token_id not in wordless:
                self.table[token_id] = token.encode() if token_id in texts else spelling.bytes_of(token)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """Token of each byte string; of several, the one that the tokenizer itself uses, else the lowest id."""
        ids: dict[bytes, int] = {}
        shared = set()
        for token_id, data in enumerate(self.table):
            if data is not None and ids.setdefault(data, token_id) != token_id:
                shared.add(data)
        for data in shared:
            own = self.encode(data)
            if len(own) == 1 and self.table[own[0]] == data:
                ids[data] = own[0]
        return ids

    def encode(self, data: bytes) -> list[int]:
        """Tokens of text that continues another: no space is put in front, nothing is trimmed, none is special.

        Their bytes join to ``data`` as the tokenizer normalises it (by NFC, say; most leave a text as it is). The data
        need not be valid UTF-8: a token can end within a character. A marker of the space in it is read as a space.
        Empty where the tokens cannot spell the data (a character that a tokenizer without byte fallback does not know,
        a text that only a special token holds, a token without a logit).
        """
        text = data.decode("utf-8", "surrogateescape")
        if _INVALID.search(text) is None:
            kept = self._spelling.text_bytes(self._inner.normalizer.normalize_str(text))
            return self._if_spelled(self._inner.encode(text, add_special_tokens=False).ids, kept)
        if self._spelling.byte_level:
            tokens = self._inner.model.tokenize(self._spelling.characters_of(data))
            return self._if_spelled([token.id for token in tokens], data)
        parts = [
            self._byte_token(part) if _INVALID.match(part) else self.encode(part.encode())
            for part in _INVALID.split(text)
            if part
        ]
        return [token_id for part in parts for token_id in part] if all(parts) else []

    def _byte_token(self, escaped: str) -> list[int]:
        data = escaped.encode("utf-8", "surrogateescape")
        token_id = self._inner.token_to_id(f"<0x{data.hex().upper()}>")
        return [] if token_id is None else self._if_spelled([token_id], data)

    def _if_spelled(self, ids: list[int], data: bytes) -> list[int]:
        """The ids if they spell the data, else none: an unknown character is left out or becomes an unknown token."""
        known = [part for i in ids if i < len(self.table) and (part := self.table[i]) is not None]
        return ids if len(known) == len(ids) and b"".join(known) == data else []


def _inner_tokenizer(backend: Any, description: dict[str, Any]) -> Any:
    """A tokenizer of the same vocabulary for texts that continue others.

    It neither puts a space in front nor trims, and reads special tokens' names as text. The vocabulary is shared, not
    copied.
    """
    normalizers, pre_tokenizers = steps(description["normalizer"]), steps(description["pre_tokenizer"])
    dropped = {"Prepend", "Strip"}
    if any(step["type"] == "Metaspace" for step in pre_tokenizers):
        # it would remove spaces that Metaspace, which splits words by itself, would have to restore
        dropped.add("WhitespaceSplit")
    plain = {"prepend_scheme": "never", "add_prefix_space": False}
    parts = {
        "normalizer": {"type": "Sequence", "normalizers": [s for s in normalizers if s["type"] not in dropped]},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {key: plain.get(key, value) for key, value in step.items()}
                for step in pre_tokenizers
                if step["type"] not in dropped
            ],
        },
        "model": {"type": "BPE", "vocab": {}, "merges": []},
        "added_tokens": [],
    }
    inner = Tokenizer.from_str(json.dumps({"version": "1.0", **parts}))
    inner.model = backend.model
    inner.add_tokens(list(backend.get_added_tokens_decoder().values()))  # in the order of their ids
    inner.encode_special_tokens = True
    return inner
