"""PEZ: gradients at projected prompts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.functional.projection import nearest_tokens
from lit_prompt.search.adam import adam_state, adam_step
from lit_prompt.search.samples import best_sample
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.token_problem import TokenProblem


@dataclass(eq=False)
class PEZ(Searcher):
    """Hard prompts made easy (Wen et al., 2023, arXiv 2302.03668).

    A continuous prompt is projected to the nearest allowed tokens; the gradient at their embeddings moves the
    continuous one by AdamW. The best projected prompt counts, or the one that the tokenizer makes of its text.

    Args:
        lr: learning rate.
        weight_decay: of AdamW.
        metric: what near means: the cosine of two embeddings, or their Euclidean distance.
    """

    method = "pez"
    on_device = ("values", "mean", "square")

    lr: float = 0.1
    weight_decay: float = 0.1
    metric: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        self.require_at_least(lr=0, weight_decay=0)
        if self.metric not in ("cosine", "euclidean"):
            raise InputError(f"model.searcher metric is {self.metric}; it must be cosine or euclidean")

    def init(self, problem: TokenProblem, ids: Tensor, scores: Tensor) -> SearchState:
        """The embeddings of each slot's start."""
        return adam_state(problem.lm.embed(ids).float())

    def step(self, problem: TokenProblem, state: SearchState, number: int, running: Tensor) -> Found:
        """Projects each slot's prompt, scores it, and moves the continuous one."""
        table = problem.table.embeddings
        values = state["values"][running.to(table.device)]
        ids = problem.allowed[nearest_tokens(values, table, self.metric).cpu()]
        _, gradient = problem.scorer.gradient(problem.lm.embed(ids).float(), running)
        adam_step(state, running, gradient, number, self.lr, self.weight_decay)
        return best_sample(problem, ids.unsqueeze(1), running)
