"""Hard prompts as texts, ready to be pasted."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_prompt.export.found_prompts import FoundPrompt, NextToken
from lit_prompt.functional.precision import double


def text_row(found: FoundPrompt, kl: float, lm: str) -> dict[str, Any]:
    """A hard prompt with what stands around it, as text and as token ids, and its KL in nats."""
    context = found.context
    prompt: list[int] = found.prompt.tolist()
    return {
        "target_id": found.target_id,
        "prompt": found.text,
        "whole_text": found.whole,
        "ids": prompt,
        "whole_ids": [*context.before_ids, *prompt, *context.after_ids],
        "chat": None if context.chat is None else json.loads(context.chat),
        "kl": kl,
        "lm": lm,
    }


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a line of JSON for each row."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def next_token_after_ids(model: Any, ids: Sequence[int]) -> NextToken:
    """What an LM of ``transformers`` gives after token ids."""

    def log_probs(begun: Sequence[int]) -> Tensor:
        whole = torch.tensor([[*ids, *begun]], dtype=torch.long, device=model.device)
        return double(model(input_ids=whole).logits[0, -1]).log_softmax(-1)

    return log_probs
