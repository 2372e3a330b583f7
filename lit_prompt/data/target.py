"""A target: a distribution over an LM's vocabulary that a prompt is searched for."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lit_prompt.functional import entropy, normalize_log_probs


def seed_for(*parts: object) -> int:
    """A 63-bit seed that depends on the given parts alone, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass
class Target:
    """One target distribution.

    Attributes:
        target_id: stable and unique in its set, such as ``random/H3.00/2``.
        family: name of the family that made it.
        log_probs: ``[vocab]``, float32, normalised in float64; ``-inf`` for probability zero.
        entropy: H in nats, computed in float64.
        seed: seed it was made from, or None where nothing random is in it.
        metadata: further facts, such as the wanted entropy; values that JSON holds.
    """

    target_id: str
    family: str
    log_probs: Tensor
    entropy: float
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_logits(
        cls, target_id: str, family: str, logits: Tensor, seed: int | None = None, **metadata: Any
    ) -> "Target":
        """Makes a target from logits or log-probabilities ``[vocab]`` of any floating dtype."""
        log_probs = normalize_log_probs(logits.double()).float()
        return cls(target_id, family, log_probs, float(entropy(log_probs.double())), seed, metadata)
