"""Random targets as the paper makes them."""

from torch import Tensor

from lit_prompt.data.families.base import EntropyGridFamily
from lit_prompt.functional import match_entropy


class EntropyMatched(EntropyGridFamily):
    """Random targets: random logits that descend (H - h)^2 until their entropy is h.

    The *random (vanilla) targets* of Distribution Prompting (Wang, Zhu and Shi, EMNLP 2025, arXiv 2505.12244).

    Args:
        entropies: entropies in nats, or how many to space evenly from 0.1 nats to ln|V| - 0.1.
        per_entropy: targets at each entropy.
        lr: step size of the descent (Adam).
        tolerance: largest accepted |H - h| in nats.
        name: family name in ids, tables and plots.
        seed: base of the seeds of the family's targets.
    """

    def __init__(
        self,
        entropies: int | list[float] = 12,
        per_entropy: int = 8,
        lr: float = 0.1,
        tolerance: float = 1e-3,
        name: str = "random",
        seed: int = 0,
    ) -> None:
        super().__init__(entropies, per_entropy, name, seed)
        self.lr = lr
        self.tolerance = tolerance

    def match(self, logits: Tensor, entropy: Tensor) -> Tensor:
        """Gradient descent on (H - h)^2: ``[item, vocab]`` and ``[item]`` to ``[item, vocab]``."""
        return match_entropy(logits, entropy, self.lr, self.tolerance)
