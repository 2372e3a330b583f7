"""Prompts as embeddings of a whole text, for servers that take those in place of a text."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lit_prompt.export.adapters import next_token_of_embeddings
from lit_prompt.export.found_prompts import NextToken
from lit_prompt.files import as_opened

KEY = "prompt_embeds"


def write_embeds(tensor_file: Path, request_file: Path, embeddings: Tensor, lm: str) -> None:
    """Writes embeddings twice: as safetensors, and as the body of a request to vLLM's ``/v1/completions``.

    The server has to run with ``--enable-prompt-embeds``, in the dtype of the embeddings.

    Args:
        tensor_file: for safetensors.
        request_file: for JSON; the embeddings are what ``torch.save`` writes, in base64.
        embeddings: ``[position, embedding]``, of all that the LM is given.
        lm: the name of the LM.
    """
    save_file({KEY: embeddings.contiguous()}, tensor_file, metadata={"lm": lm})
    as_opened(tensor_file)
    buffer = io.BytesIO()
    torch.save(embeddings.contiguous(), buffer)
    body = {"model": lm, "prompt": "", KEY: base64.b64encode(buffer.getvalue()).decode(), "max_tokens": 1,
            "temperature": 1.0, "logprobs": 20}  # fmt: skip
    request_file.write_text(json.dumps(body) + "\n", encoding="utf-8")


def next_token_after_embeds(model: Any, request_file: Path) -> NextToken:
    """What an LM of ``transformers`` gives after the embeddings of a request."""
    body = json.loads(request_file.read_text(encoding="utf-8"))
    embeddings = torch.load(io.BytesIO(base64.b64decode(body[KEY])), weights_only=True).to(model.device)
    return next_token_of_embeddings(model, embeddings, ())
