"""A fingerprint of a model: its architecture and its weights, as they are used."""

import hashlib
import json
from typing import Any

import torch

# facts of the file, not of the function that the model computes
_VOLATILE_KEYS = ("_name_or_path", "transformers_version", "_attn_implementation", "use_cache", "architectures")


def lm_fingerprint(model: Any) -> str:
    """SHA-256 over a model's configuration and weights.

    Two models with the same fingerprint compute the same distributions: the dtype of the weights is part of it, the
    folder they came from is not.

    Args:
        model: a ``transformers`` model.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    config = {key: value for key, value in model.config.to_dict().items() if key not in _VOLATILE_KEYS}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
