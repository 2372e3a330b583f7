"""A fingerprint of a model: its architecture and its weights, as they are used."""

import hashlib
import json
from typing import Any

import torch

from lit_prompt.errors import InputError

# facts of the file, not of the function that the model computes
_VOLATILE_KEYS = ("_name_or_path", "transformers_version", "_attn_implementation", "use_cache", "architectures")


def lm_fingerprint(model: Any) -> str:
    """SHA-256 over the configuration and weights of a ``transformers`` model, 16 hexadecimal digits.

    Two models with the same fingerprint compute the same distributions: the dtype of the weights is part of it, the
    folder they came from is not.

    Raises:
        InputError: if weights lie on disk.
    """
    digest = hashlib.sha256()
    config = {key: value for key, value in model.config.to_dict().items() if key not in _VOLATILE_KEYS}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise InputError(
                "lm_options.device_map leaves weights on disk or moves them in and out; choose a map under which all "
                "of the LM fits, or a smaller dtype"
            )
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
