"""KL(target || LM), the objective of Distribution Prompting."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.functional import entropy, kl_divergence, kl_from_moments, kl_table_from_moments
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective

_ROWS = 8  # of targets that are raised to float64 at once


class _Moments(NamedTuple):
    moments: Tensor
    offset: Tensor
    entropy: Tensor


class ForwardKL(Objective):
    """KL(p || q), computed from a target's moments (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244).

    It wants mass wherever the target has some. Certified floors and the lift are for this objective.
    """

    name = "kl"
    needs_logits = False  # the log-partition is a logit whose partition function it is

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """KL(p || q)."""
        return kl_divergence(log_p, log_q)

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> _Moments:
        """Moments W^T p, offset <p, b> and entropy H(p) of each target."""
        moments, offset = lm.moments(log_p)
        h = torch.cat([entropy(double(rows)) for rows in log_p.split(_ROWS)])
        return _Moments(moments, offset, h.to(offset))

    def pairs(self, logits: Tensor, features: Tensor, prepared: _Moments, which: Tensor) -> Tensor:
        """KL of each row for its target."""
        return kl_from_moments(logits, features, *(x[which] for x in prepared))

    def table(self, logits: Tensor, features: Tensor, prepared: _Moments, which: Tensor | slice = ALL) -> Tensor:
        """KL of each row for each of some targets: a single matrix product."""
        return kl_table_from_moments(logits, features, *(x[which] for x in prepared))
