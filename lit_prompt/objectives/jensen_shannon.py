"""The Jensen-Shannon divergence."""

from torch import Tensor

from lit_prompt.functional import js_divergence
from lit_prompt.objectives.base import Objective


class JensenShannon(Objective):
    """Jensen-Shannon divergence, symmetric and at most ln 2 (Lin, 1991)."""

    name = "js"

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """JS(p, q)."""
        return js_divergence(log_p, log_q)
