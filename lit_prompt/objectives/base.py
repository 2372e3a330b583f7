"""The contract of an objective."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lit_prompt.functional import normalize_log_probs
from lit_prompt.lm import FrozenLM
from lit_prompt.records.results import objective_label

#: All targets.
ALL = slice(None)


class Objective(ABC):
    """A divergence between targets p and the LM's next-token distributions q, in nats; a search minimises it.

    A subclass gives :attr:`name` and :meth:`divergence`. One that needs less of a target than its ``|V|`` numbers
    overrides :meth:`prepare`, :meth:`pairs` and :meth:`table` too.
    """

    #: Name in results, progress bars and reports.
    name: str
    #: Whether targets need mass on every token.
    needs_full_support = False
    #: Whether :meth:`table` needs the logits; if not, their log-partition may stand for them, ``[row, 1]``.
    needs_logits = True

    @property
    def label(self) -> str:
        """The name as it is shown."""
        return objective_label(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that define the objective."""
        return {"objective": self.name} | {f"objective.{key}": value for key, value in vars(self).items()}

    @abstractmethod
    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The divergence of distributions in nats, ``[..., vocab]`` and ``[..., vocab]`` to ``[...]``.

        Differentiable in ``log_q``; both are normalised log-probabilities, ``-inf`` for no mass.
        """

    def prepare(self, log_p: Tensor, lm: FrozenLM) -> Any:
        """What the search needs of targets ``[target, vocab]``, on the device of the LM's head."""
        return log_p.to(lm.head_device, lm.score_dtype)

    def pairs(self, logits: Tensor, features: Tensor, prepared: Any, which: Tensor) -> Tensor:
        """Divergences in nats, ``[row]``, of rows from one target each, ``which`` of the prepared ones.

        A row is the LM's logits, ``[row, vocab]``, and the features that its head maps to them, ``[row, feature]``;
        differentiable in both.
        """
        return self.divergence(prepared[which], normalize_log_probs(logits))

    def table(self, logits: Tensor, features: Tensor, prepared: Any, which: Tensor | slice = ALL) -> Tensor:
        """Divergences of all rows from some targets, nats, ``[row, target]``."""
        log_q = normalize_log_probs(logits)
        return torch.stack([self.divergence(log_p, log_q) for log_p in prepared[which]], 1)
