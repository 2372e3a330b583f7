"""The gain of a prompt beside a mixture, by which its next component is searched."""

from typing import NamedTuple

from torch import Tensor

from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective

# a gain that is computed from probabilities is right down to here, float32
_SMALLEST = 1e-30


class _Ratios(NamedTuple):
    log: Tensor  # ln(p / m), [target, vocab]
    scaled: Tensor  # p / m over its largest value
    top: Tensor  # logarithm of that value, [target]


class MixtureGain(Objective):
    """-ln g, g = sum_v p_v q_v / m_v, beside a mixture m: minus the slope of KL(p || m) towards q is g - 1.

    So a prompt lowers the KL of the mixture if and only if it is below 0. It is given ln(p / m) in place of targets,
    ``-inf`` where a target has no mass. As -ln is convex, -ln g is at most the mean over p of -ln(q / m).
    """

    name = "mixture_gain"
    #: The gain of a task is the weighted sum of its targets' gains.
    pools = True

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """-ln g, of ln(p / m)."""
        return -(log_p + log_q).logsumexp(-1)

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> _Ratios:
        """The ratios p / m, and as multiples of the largest."""
        ratio = log_p.to(lm.head_device, lm.score_dtype)
        top = ratio.amax(-1)
        return _Ratios(ratio, (ratio - top.unsqueeze(-1)).exp(), top)

    def pairs(self, logits: Tensor, features: Tensor, prepared: _Ratios, which: Tensor) -> Tensor:
        """-ln g of each row for its target."""
        return logits.logsumexp(-1) - (logits + prepared.log[which]).logsumexp(-1)

    def table(self, logits: Tensor, features: Tensor, prepared: _Ratios, which: Tensor | slice = ALL) -> Tensor:
        """-ln g of each row for each of some targets: a single matrix product, and logarithms where that vanishes."""
        log_ratio, scaled, top = (x[which] for x in prepared)
        log_q = logits.log_softmax(-1)
        gain = log_q.exp() @ scaled.T
        found = -(gain.log() + top)
        vanished = gain < _SMALLEST
        for target in vanished.any(0).nonzero().flatten().tolist():
            rows = vanished[:, target]
            found[rows, target] = self.divergence(log_ratio[target], log_q[rows])
        return found
