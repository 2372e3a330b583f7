"""Texts that a language model makes up."""

from typing import Any

import torch

from lit_prompt.lm.vocabulary import Vocabulary


def sample_text(model: Any, vocabulary: Vocabulary, tokens: int, seed: int) -> str:
    """A text sampled from an LM, from its beginning-of-text token to its end of text.

    Args:
        model: a ``transformers`` causal LM.
        vocabulary: its vocabulary.
        tokens: most tokens of the text.
        seed: decides the text.

    Returns:
        The text without special tokens.
    """
    tokenizer = vocabulary.tokenizer
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = torch.tensor([[0 if begin is None else begin]], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        ids = model.generate(
            start, attention_mask=torch.ones_like(start), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=tokens, pad_token_id=0,
        )[0, 1:].tolist()  # fmt: skip
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
