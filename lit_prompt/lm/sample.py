"""Texts that a language model makes up."""

from typing import Any

import torch
from torch import Tensor

from lit_prompt.lm.cache import LMCache, digest
from lit_prompt.lm.frozen import FrozenLM
from lit_prompt.lm.vocabulary import Vocabulary
from lit_prompt.progress import phase

# texts that are sampled together; not fewer where memory is short, as the texts would then be others
_BLOCK = 64


def sample_text(model: Any, vocabulary: Vocabulary, tokens: int, seed: int) -> str:
    """A text of so many tokens at most that a ``transformers`` LM makes up, without special tokens."""
    tokenizer = vocabulary.tokenizer
    ids = _sample(model, vocabulary, 1, tokens, seed)[0].tolist()
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def sample_prompts(
    lm: FrozenLM, vocabulary: Vocabulary, count: int, length: int, seed: int, cache: LMCache
) -> Tensor | None:
    """Beginnings of texts that an LM makes up, without what stands in front of them; what the cache has is not made.

    Returns:
        Token ids ``[count, length]``, on the CPU; None where the LM takes no text of this length.
    """
    if lm.max_length is not None and len(_start(vocabulary)) + length > lm.max_length:
        return None

    def make() -> dict[str, Tensor]:
        blocks = []
        with phase("texts that the LM makes", "text", count) as tick:
            for start in range(0, count, _BLOCK):
                size = min(_BLOCK, count - start)
                blocks.append(_sample(lm.model, vocabulary, size, length, seed + start, min_new_tokens=length))
                tick(size)
        return {"ids": torch.cat(blocks).cpu()}

    settings = getattr(lm.model, "generation_config", None)
    about = {
        "what": "texts", "count": count, "length": length, "seed": seed, "start": _start(vocabulary),
        "without": digest(torch.tensor(vocabulary.undefined_ids)), "settings": settings and settings.to_json_string(),
    }  # fmt: skip
    return cache.kept(about, make)["ids"]


def _start(vocabulary: Vocabulary) -> list[int]:
    return vocabulary.empty_text_ids or [0]


def _sample(model: Any, vocabulary: Vocabulary, count: int, tokens: int, seed: int, **options: Any) -> Tensor:
    start = torch.tensor([_start(vocabulary)], device=model.device).repeat(count, 1)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        ids: Tensor = model.generate(
            start, attention_mask=torch.ones_like(start), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=tokens, pad_token_id=0, suppress_tokens=vocabulary.undefined_ids or None, **options,
        )[:, start.shape[1] :]  # fmt: skip
    return ids
