"""Training of tokenizers."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lit_prompt.errors import InputError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TokenizerTraining:
    """A tokenizer to be trained on the text.

    Attributes:
        kind: ``byte_bpe``: byte-level BPE, as GPT-2's. ``unigram``: Unigram with a marker for spaces, as
            SentencePiece's. ``byte_fallback_bpe``: BPE with a marker for spaces that falls back to bytes, as Llama 2's.
        vocab_size: number of tokens.
    """

    kind: Literal["byte_bpe", "unigram", "byte_fallback_bpe"] = "byte_bpe"
    vocab_size: int = 4096


def train_tokenizer(texts: Iterable[str], training: TokenizerTraining) -> Any:
    """Trains a ``transformers`` tokenizer with ``<|endoftext|>`` as its one special token, around every text.

    Raises:
        InputError: if the vocabulary is too small for the kind.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet: list[str] = []
    special = [END_OF_TEXT]
    if training.kind == "byte_bpe":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif training.kind == "unigram":
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        special.append("<unk>")
    else:
        raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        raw.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # merges stay within a word
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special += ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    least = len(special) + len(alphabet)
    if training.vocab_size <= least:
        raise InputError(f"tokenizer.vocab_size is {training.vocab_size}; {training.kind} needs more than {least}")
    common: dict[str, Any] = {"vocab_size": training.vocab_size, "special_tokens": special, "show_progress": False}
    trainer: Any
    if training.kind == "unigram":
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **common)
    else:
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **common)
    raw.train_from_iterator(texts, trainer)
    if training.kind == "byte_fallback_bpe":
        raw = _with_ordinary_bytes(raw)
    unknown = {} if training.kind == "byte_bpe" else {"unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, **unknown)


def _with_ordinary_bytes(raw: Any) -> Any:
    """Makes byte tokens ordinary: the trainer needs them as special ones, which a decoder would leave out."""
    from tokenizers import Tokenizer

    description = json.loads(raw.to_str())
    description["added_tokens"] = [t for t in description["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(description))
