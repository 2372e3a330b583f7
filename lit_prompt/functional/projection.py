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
    """Index of the table row nearest to each vector, the first of equally near ones; one dtype, one device.

    Nearest by the largest cosine, as in PEZ (Wen et al., 2023, arXiv 2302.03668), or by the least Euclidean distance.
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
