"""ARCA: coordinate ascent with averaged gradients."""

import torch
from torch import Tensor

from lit_prompt.search.coordinate_search import CoordinateSearch, Order
from lit_prompt.search.first_order import first_order_change
from lit_prompt.search.token_problem import TokenProblem


class ARCA(CoordinateSearch):
    """Coordinate ascent whose gradient is averaged over random tokens (Jones et al., 2023, arXiv 2303.04381).

    The gradient at the token that stands at a position says little about distant tokens. ARCA puts random tokens in its
    place, averages the first-order estimates that they give, and scores the tokens that promise most. The best of them
    is taken if it is better than what stands there. What the paper adds for prompts that are optimised together with
    the LM's output has no part here, where one token is predicted.

    Args:
        averaged: random tokens whose gradients are averaged.
        num_candidates: tokens that are tried at a position.
        order: of the positions in a sweep: first to last, last to first, or a new random one in each sweep.
    """

    method = "arca"

    def __init__(self, averaged: int = 32, num_candidates: int = 32, order: Order = "forward") -> None:
        super().__init__(order, beam_size=1)
        self.averaged = averaged
        self.num_candidates = num_candidates
        self.require_at_least(averaged=1, num_candidates=1)

    def ends(self, problem: TokenProblem) -> bool:
        """Only where every token is tried: other random tokens may give other candidates."""
        return self.num_candidates >= len(problem.allowed)

    def tokens(self, problem: TokenProblem, ids: Tensor, own: Tensor, positions: Tensor, number: int) -> Tensor:
        """The tokens with the lowest averaged first-order KL."""
        random = [problem.random_ids(self.averaged, problem.generator(slot, number)) for slot in own.tolist()]
        others = ids.repeat_interleave(self.averaged, 0)
        rows, at = torch.arange(len(others)), positions.repeat_interleave(self.averaged)
        others[rows, at] = torch.cat(random)
        embeddings = problem.lm.embed(others).float()
        _, gradient = problem.ranker.gradient(embeddings, own.repeat_interleave(self.averaged))
        mean = gradient[rows, at].unflatten(0, (len(ids), -1)).mean(1)
        change = first_order_change(problem, mean)
        return problem.allowed[change.topk(min(self.num_candidates, change.shape[1]), largest=False).indices.cpu()]
