"""KL(LM || target)."""

from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.functional import kl_divergence
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives.base import ALL, Objective


class ReverseKL(Objective):
    """KL(q || p): it wants no mass where the target has little.

    It is infinite for a target that excludes tokens, since an LM excludes none.

    Args:
        smoothing: share of a uniform distribution that is mixed into every target, for those that exclude tokens.
    """

    name = "reverse_kl"

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0.0 <= smoothing < 1.0:
            raise InputError(f"model.objective smoothing is {smoothing}; it must be at least 0 and below 1")
        self.smoothing = smoothing

    @property
    def needs_full_support(self) -> bool:  # type: ignore[override]
        """Targets may exclude tokens where they are smoothed."""
        return self.smoothing == 0.0

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """KL(q || smoothed p)."""
        return kl_divergence(log_q, self._smoothed(log_p))

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> Tensor:
        """Log of the smoothed targets."""
        return self._smoothed(log_p.to(lm.head_device, lm.score_dtype))

    def pairs(self, logits: Tensor, features: Tensor, prepared: Tensor, which: Tensor) -> Tensor:
        """KL of each row for its target."""
        return kl_divergence(logits, prepared[which])

    def table(self, logits: Tensor, features: Tensor, prepared: Tensor, which: Tensor | slice = ALL) -> Tensor:
        """KL of each row for each of some targets: a single matrix product."""
        log_q = logits.log_softmax(-1)
        q = log_q.exp()
        return (q * log_q).sum(-1, keepdim=True) - q @ prepared[which].T

    def _smoothed(self, log_p: Tensor) -> Tensor:
        if self.smoothing == 0.0:
            return log_p
        return ((1.0 - self.smoothing) * log_p.exp() + self.smoothing / log_p.shape[-1]).log()
