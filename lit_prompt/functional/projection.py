"""Tokens whose embeddings are nearest to given vectors."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

_NUMBERS_PER_PART = 2**26


def nearest_tokens(
    embeddings: Float[Tensor, "*batch embedding"],
    table: Float[Tensor, "token embedding"],
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Int64[Tensor, "*batch"]:
    """The rows of a table that are nearest to some vectors.

    Args:
        embeddings: the vectors.
        table: of the same dtype and on the same device.
        metric: ``cosine``: the largest normalised dot product, as PEZ projects (Wen et al., 2023, arXiv 2302.03668).
            ``euclidean``: the smallest distance.

    Returns:
        Places in the table; the first of several that are equally near.
    """
    rows, dimension = embeddings.reshape(-1, embeddings.shape[-1]), embeddings.shape[-1]
    if metric == "cosine":
        # the vector's own norm changes no order
        table, penalty = normalize(table, dim=1), table.new_zeros(len(table))
    else:
        penalty = table.square().sum(1) / 2
    part = max(1, _NUMBERS_PER_PART // max(len(table), dimension))
    found = [(x @ table.T - penalty).argmax(1) for x in rows.split(part)]
    return torch.cat(found).view(embeddings.shape[:-1])
