"""Vocabularies of every kind whose bytes are known; those with byte fallback are trained on the spot."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lit_prompt.lm import LMOptions, Vocabulary
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA

_TEXT = ["Yes, said the king, and no, said the crow;", "one, two, three", "déjà vu   là"] * 20


def as_vocabulary(raw, size=None, **special):
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, **special), size or raw.get_vocab_size())


def trained_pieces():
    """Vocabulary and merges of a BPE with a marker for the space, trained on a few words."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.train_from_iterator(_TEXT, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(raw.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(merge) for merge in model["merges"]]


def byte_fallback(form):
    """A vocabulary in the manner of Llama 2, in one of the three forms in which its heirs are written down."""
    pieces, merges = trained_pieces()
    merges += [("▁", "▁"), ("▁▁", "▁▁")]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces, "▁▁", "▁▁▁▁"]
    tokens = list(dict.fromkeys(tokens))
    raw = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True,
                   byte_fallback=True)
    )  # fmt: skip
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if form == "llama2":
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif form == "mistral":
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        raw.normalizer = normalizers.Replace(" ", "▁")
        raw.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        steps.pop()
    raw.decoder = decoders.Sequence(steps)
    return as_vocabulary(raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def vocabularies(tokenizer):
    """Real vocabularies: two of byte-level BPE, one of Unigram, three with byte fallback."""
    return {
        "tiny": Vocabulary(tokenizer, 320),
        "byte_level": Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions()),
        "unigram": Vocabulary.load(str(EMBEDDED_GPT2), LMOptions()),
        **{form: byte_fallback(form) for form in ("llama2", "mistral", "gemma")},
    }
