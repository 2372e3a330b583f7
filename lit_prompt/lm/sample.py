"""Texts that a language model makes up."""

from typing import Any

import torch
from torch import Tensor

from lit_prompt.lm.frozen import FrozenLM
from lit_prompt.lm.vocabulary import Vocabulary

# texts that are sampled together; not fewer where memory is short, as the texts would then be others
_BLOCK = 64


def sample_text(model: Any, vocabulary: Vocabulary, tokens: int, seed: int) -> str:
    """A text of so many tokens at most that a ``transformers`` LM makes up, without special tokens."""
    tokenizer = vocabulary.tokenizer
    ids = _sample(model, tokenizer, 1, tokens, seed)[0].tolist()
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def sample_prompts(lm: FrozenLM, vocabulary: Vocabulary, count: int, length: int, seed: int) -> Tensor | None:
    """Beginnings of texts that an LM makes up, the beginning-of-text token left out.

    Returns:
        Token ids ``[count, length]``, on the CPU; None where the LM takes no text of this length.
    """
    if lm.max_length is not None and length >= lm.max_length:
        return None
    blocks = [
        _sample(lm.model, vocabulary.tokenizer, min(_BLOCK, count - start), length, seed + start, min_new_tokens=length)
        for start in range(0, count, _BLOCK)
    ]
    return torch.cat(blocks).cpu()


def _sample(model: Any, tokenizer: Any, count: int, tokens: int, seed: int, **options: int) -> Tensor:
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = torch.full((count, 1), 0 if begin is None else begin, device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        ids: Tensor = model.generate(
            start, attention_mask=torch.ones_like(start), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=tokens, pad_token_id=0, **options,
        )[:, 1:]  # fmt: skip
    return ids
