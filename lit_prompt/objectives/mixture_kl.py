"""What a prompt does for the KL of a mixture, by which its next component is searched."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective

# where ln m is below it, q / m is left to logarithms: 1 / m times the least float32 still counts for nothing
_LEAST = -60.0


class _Prepared(NamedTuple):
    p: Tensor  # [target, vocab]
    log_m: Tensor
    inverse: Tensor  # 1 / m
    is_small: list[bool]  # whether m hardly has some token of a target, [target]


class MixtureKL(Objective):
    """KL(p || (1 - t) m + t q) - KL(p || m) = -sum_v p_v ln(1 - t + t q_v / m_v), beside a mixture m, for a share t.

    Below 0 the prompt that gives q lowers the KL of the mixture. For small t it is t (1 - g), g = sum_v p_v q_v / m_v,
    which is least for a prompt that gives the one token that m lacks most: it helps, and hardly. With a share as large
    as that of the other components a prompt is wanted that does its part of the work.

    Args:
        log_m: ln m of each target, ``[target, vocab]``; any number where p has no mass.
        share: t, between 0 and 1.
    """

    name = "mixture_kl"

    def __init__(self, log_m: Tensor, share: float) -> None:
        self._log_m = log_m
        self._share = share

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The change of the KL; targets are all of the mixtures, in their order."""
        return mixture_kl_change(log_p.exp(), log_q - self._log_m.to(log_q), self._share)

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> _Prepared:
        """Targets and mixtures, on the device of the LM's head."""
        p, log_m = (x.to(lm.head_device, lm.score_dtype) for x in (log_p.exp(), self._log_m))
        small = ((log_m < _LEAST) & (p > 0)).any(1).tolist()
        return _Prepared(p, log_m, (-log_m.clamp_min(_LEAST)).exp(), small)

    def pairs(self, logits: Tensor, features: Tensor, prepared: _Prepared, which: Tensor) -> Tensor:
        """The change of each row's target."""
        return mixture_kl_change(prepared.p[which], logits.log_softmax(-1) - prepared.log_m[which], self._share)

    def table(self, logits: Tensor, features: Tensor, prepared: _Prepared, which: Tensor | slice = ALL) -> Tensor:
        """The change of each row and each of some targets."""
        q, rest = logits.softmax(-1) * self._share, logits.new_full((), 1.0 - self._share)
        found = []
        for target in torch.arange(len(prepared.p))[which.cpu() if isinstance(which, Tensor) else which].tolist():
            p, log_m = prepared.p[target], prepared.log_m[target]
            if prepared.is_small[target]:
                found.append(mixture_kl_change(p, logits.log_softmax(-1) - log_m, self._share))
            else:
                found.append(-(torch.addcmul(rest, q, prepared.inverse[target]).log_() @ p))
        return torch.stack(found, 1)


def mixture_kl_change(p: Tensor, log_ratio: Tensor, share: float) -> Tensor:
    """-sum p ln(1 - t + t q / m) over the last dimension, from p and ln(q / m)."""
    rest = torch.full_like(log_ratio, math.log1p(-share))
    return -(p * torch.logaddexp(rest, log_ratio + math.log(share))).sum(-1)
