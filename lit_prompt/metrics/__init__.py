"""Divergence and entropy as torchmetrics."""

from lit_prompt.metrics.divergence import (
    Entropy,
    JSDivergence,
    KLDivergence,
    ReverseKLDivergence,
    TopKOverlap,
    TotalVariation,
)
from lit_prompt.metrics.grouped import GroupedMetrics, entropy_bin

__all__ = [
    "Entropy",
    "GroupedMetrics",
    "JSDivergence",
    "KLDivergence",
    "ReverseKLDivergence",
    "TopKOverlap",
    "TotalVariation",
    "entropy_bin",
]
