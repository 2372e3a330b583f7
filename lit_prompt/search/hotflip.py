"""HotFlip with a beam, the search for universal triggers."""

import torch
from torch import Tensor

from lit_prompt.search.coordinate_search import CoordinateSearch, Order
from lit_prompt.search.first_order import first_order_change, ranked_swaps
from lit_prompt.search.token_problem import TokenProblem


class HotFlip(CoordinateSearch):
    """Gradient-ranked replacement, position by position (Wallace et al., 2019, arXiv 1908.07125).

    A step tries, at one position of every prompt in the beam, the tokens that promise most by the gradient at its
    embedding (HotFlip: Ebrahimi et al., 2018, arXiv 1712.06751), and keeps the best prompts. Sweeps over all positions
    follow one another until one changes nothing. Distribution Prompting (Wang et al., 2025, arXiv 2505.12244) finds its
    hard prompts so.

    Args:
        num_candidates: tokens that are tried for each prompt in the beam.
        beam_size: prompts that are kept for each slot.
        order: of the positions in a sweep: first to last, last to first, or a new random one in each sweep.
    """

    method = "hotflip"

    def __init__(self, num_candidates: int = 100, beam_size: int = 1, order: Order = "forward") -> None:
        super().__init__(order, beam_size)
        self.num_candidates = num_candidates
        self.require_at_least(num_candidates=1)

    def tokens(self, problem: TokenProblem, ids: Tensor, own: Tensor, positions: Tensor, number: int) -> Tensor:
        """The tokens with the lowest first-order KL."""
        at = torch.arange(len(ids)), positions
        _, gradient = problem.ranker.gradient(problem.lm.embed(ids).float(), own)
        change = first_order_change(problem, gradient[at]).unsqueeze(1)
        return ranked_swaps(problem, change, ids[at].unsqueeze(1), self.num_candidates).squeeze(1)
