"""What a prompt does for the KL of a mixture, by which its next component is searched."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective

_LEAST = -80.0  # ln m of a token that the mixture hardly has; 1 / m is a float32 still


class _Prepared(NamedTuple):
    p: Tensor  # [target, vocab]
    log_m: Tensor
    inverse: Tensor  # 1 / m


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
        return _Prepared(p, log_m, (-log_m.clamp_min(_LEAST)).exp())

    def pairs(self, logits: Tensor, features: Tensor, prepared: _Prepared, which: Tensor) -> Tensor:
        """The change of each row's target."""
        return mixture_kl_change(prepared.p[which], logits.log_softmax(-1) - prepared.log_m[which], self._share)

    def table(self, logits: Tensor, features: Tensor, prepared: _Prepared, which: Tensor | slice = ALL) -> Tensor:
        """The change of each row and each of some targets."""
        q = logits.softmax(-1) * self._share
        of_targets = zip(prepared.p[which], prepared.inverse[which], strict=True)
        found = [-(torch.addcmul(_rest(q, self._share), q, inverse).log_() @ p) for p, inverse in of_targets]
        return torch.stack(found, 1)


def _rest(like: Tensor, share: float) -> Tensor:
    return like.new_full((), 1.0 - share)


def mixture_kl_change(p: Tensor, log_ratio: Tensor, share: float) -> Tensor:
    """-sum p ln(1 - t + t q / m) over the last dimension, from p and ln(q / m)."""
    rest = torch.full_like(log_ratio, math.log1p(-share))
    return -(p * torch.logaddexp(rest, log_ratio + math.log(share))).sum(-1)
