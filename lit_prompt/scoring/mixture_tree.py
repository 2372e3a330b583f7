"""Answers of which a part is drawn with other prompts."""

from jaxtyping import Float
from torch import Tensor

from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.objectives.mixture_kl import mixture_kl_change


class MixtureTree(AnswerTree):
    """A tree whose objective is that of :class:`lit_prompt.objectives.MixtureKL`, over its cells.

    As the prompt of a mixture is drawn once an answer, a mixture is one of whole answers, and no sum over nodes.

    Args:
        tree: of the answers.
        log_m: ln m of each cell, ``[cell]``.
        share: t of the prompt that is searched.
    """

    is_additive = False

    def __init__(self, tree: AnswerTree, log_m: Tensor, share: float) -> None:
        vars(self).update((name, value) for name, value in vars(tree).items() if name != "is_additive")
        self._log_m = log_m
        self._share = share

    def kl(self, log_q: Float[Tensor, "*batch edge"]) -> Float[Tensor, "*batch"]:
        """The change of the KL; differentiable."""
        log_ratio = self.log_cells(log_q) - self._log_m.to(log_q)
        return mixture_kl_change(self.log_probs.exp().to(log_q), log_ratio, self._share)
