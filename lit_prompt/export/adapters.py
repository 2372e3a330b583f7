"""What prompts reach as PEFT puts them before all text."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_prompt.export.found_prompts import NextToken
from lit_prompt.functional.precision import double
from lit_prompt.lm.quantization import silence_bitsandbytes


def why_not_read() -> str | None:
    """Why an adapter cannot be read back here; None where it can."""
    return None if find_spec("peft") else "PEFT is not installed (pip install 'lit_prompt[export]')"


def next_token_of_embeddings(model: Any, embeddings: Tensor, after: Sequence[int]) -> NextToken:
    """What an LM of ``transformers`` gives after embeddings ``[position, embedding]`` and token ids."""

    def log_probs(begun: Sequence[int]) -> Tensor:
        ids = torch.tensor([*after, *begun], dtype=torch.long, device=model.device)
        typed = model.get_input_embeddings()(ids)
        whole = torch.cat([embeddings.to(typed), typed]).unsqueeze(0)
        return double(model(inputs_embeds=whole).logits[0, -1]).log_softmax(-1)

    return log_probs


def next_token_of_adapter(model: Any, folder: Path, after: Sequence[int]) -> NextToken:
    """What an LM gives with an adapter, as PEFT loads it, after the tokens that follow the prompt."""
    silence_bitsandbytes()  # PEFT asks what it can do
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what transformers will drop, for PEFT to mend
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(model, str(folder))

    def log_probs(begun: Sequence[int]) -> Tensor:
        ids = torch.tensor([[*after, *begun]], dtype=torch.long, device=model.device)
        logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        return double(logits).log_softmax(-1)

    return log_probs
