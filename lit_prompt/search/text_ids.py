"""Texts as rows of numbers: the bytes of UTF-8, filled up with zeros."""

from collections.abc import Sequence

import torch
from torch import Tensor


def text_ids(texts: Sequence[str], length: int) -> Tensor:
    """Texts of at most ``length`` bytes, none of them zero, as ``[text, length]``, int64."""
    found = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in zip(found, texts, strict=True):
        data = text.encode()
        row[: len(data)] = torch.tensor(list(data), dtype=torch.long)
    return found


def ids_text(ids: Sequence[int]) -> str:
    """The text that gave a row of :func:`text_ids`."""
    return bytes(i for i in ids if i).decode()
