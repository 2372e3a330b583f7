"""How tokens are drawn from an LM, as its users set it."""

import math
from dataclasses import dataclass

from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.functional import sampled_log_probs


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from an LM, with the settings and in the order of ``generate`` of transformers.

    Attributes:
        temperature: what logits are divided by, above 0.
        top_k: how many of the likeliest tokens can be drawn; null for all.
        top_p: probability of the likeliest tokens that can be drawn, as few as have so much; null for all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"sampling.temperature is {self.temperature:g}; give a number above 0 (1 changes nothing)")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"sampling.top_k is {self.top_k}; give a number of tokens of at least 1, or null for all")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise InputError(f"sampling.top_p is {self.top_p:g}; give a probability above 0 and at most 1, or null")

    @property
    def is_plain(self) -> bool:
        """Whether it is the LM's own distribution."""
        return self.temperature == 1.0 and self.top_k is None and self.top_p in (None, 1.0)

    def __str__(self) -> str:
        settings = {name: value for name, value in vars(self).items() if value is not None}
        return ", ".join(f"{name} {value:g}" for name, value in settings.items())

    def __call__(self, logits: Tensor) -> Tensor:
        """Log-probabilities ``[..., vocab]`` of the tokens that are drawn, from logits or log-probabilities."""
        return sampled_log_probs(logits, self.temperature, self.top_k, self.top_p)


#: Of the LM's own distribution.
PLAIN = Sampling()
