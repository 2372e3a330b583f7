"""Exhaustive greedy coordinate descent."""

from torch import Tensor

from lit_prompt.search.coordinate_search import CoordinateSearch, Order
from lit_prompt.search.token_problem import TokenProblem


class CoordinateDescent(CoordinateSearch):
    """Scores every allowed token at one position, takes the best, and goes to the next position.

    Gradients choose nothing here, so that this is what HotFlip (Ebrahimi et al., 2018, arXiv 1712.06751) and its
    successors approximate. It ends at a prompt that no change of a single token improves.

    Args:
        order: of the positions in a sweep: first to last, last to first, or a new random one in each sweep.
    """

    method = "coordinate"

    def __init__(self, order: Order = "forward") -> None:
        super().__init__(order, beam_size=1)

    def tokens(self, problem: TokenProblem, ids: Tensor, own: Tensor, positions: Tensor, number: int) -> Tensor:
        """All of them."""
        return problem.allowed.expand(len(ids), -1)
