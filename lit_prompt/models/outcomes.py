"""What a target is over: the LM's tokens, or answers of several tokens and all else."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import normalize_log_probs
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.functional.precision import double
from lit_prompt.scoring import Context, Member, PromptedLM
from lit_prompt.scoring.prompted_lm import Part

#: Name of all that is none of a target's answers.
OTHER = "(all else)"


def width(trees: Sequence[AnswerTree | None], vocab_size: int) -> int:
    """Outcomes of the target that has most."""
    return max((vocab_size if tree is None else len(tree) + 1 for tree in trees), default=0)


def target_outcomes(batch: TargetBatch) -> Tensor:
    """Log-probabilities of the outcomes of some targets, ``[target, outcome]``, float64; ``-inf`` where there is none.

    Outcomes are tokens, or, where a target is over answers, its cells and, with no mass, everything else.
    """
    if not any(batch.trees):
        return normalize_log_probs(double(batch.log_probs))
    found = torch.full((len(batch), width(batch.trees, batch.log_probs.shape[1])), -math.inf, dtype=torch.float64)
    for row, log_probs, tree in zip(found, batch.log_probs, batch.trees, strict=True):
        own = normalize_log_probs(double(log_probs)) if tree is None else tree.log_probs
        row[: len(own)] = own
    return found


def reached_outcomes(
    prompted: PromptedLM,
    prompts: Tensor,
    rows: Sequence[Member],
    contexts: Sequence[Context],
    holds: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of outcomes after prompts.

    Args:
        prompted: the LM, in all of ``contexts``.
        prompts: a prompt for each row, as of :meth:`PromptedLM.each`.
        rows: what is read after each; of a member the context and the tree count.
        contexts: of ``prompted``.
        holds: whether floors bound what the LM gives for features ``[item, feature]``, ``[item]``, bool.

    Returns:
        As of :func:`target_outcomes`, ``[row, outcome]``, and whether floors hold for all that was read, ``[row]``.
    """
    numbers = {context: number for number, context in enumerate(contexts)}
    pairs = [(row, node, numbers[c]) for row, member in enumerate(rows) for node, c in enumerate(member.contexts)]
    which, nodes, places = torch.tensor(pairs, dtype=torch.long).view(-1, 3).unbind(1)
    trees = [member.tree for member in rows]
    found = torch.full((len(rows), width(trees, prompted.lm.vocab_size)), -math.inf, dtype=torch.float64)
    edges = [None if tree is None else torch.empty(len(tree.token), dtype=torch.float64) for tree in trees]
    bounded = torch.ones(len(pairs), dtype=torch.bool)

    def fill(part: Part) -> None:
        bounded[part.rows] = holds(part.features)
        log_q = normalize_log_probs(double(prompted.lm.logits(part.features)))
        for row, node, own in zip(which[part.rows].tolist(), nodes[part.rows].tolist(), log_q, strict=True):
            tree, values = trees[row], edges[row]
            if tree is None or values is None:
                found[row] = own
            else:
                leaves = (tree.node == node).nonzero().flatten()
                values[leaves] = own[tree.token[leaves]]

    prompted.each(prompts, which, places, fill)
    for row, (tree, values) in enumerate(zip(trees, edges, strict=True)):
        if tree is not None and values is not None:
            found[row, : len(tree) + 1] = tree.outcomes(values)
    unbounded = torch.zeros(len(rows), dtype=torch.long).index_add_(0, which, (~bounded).long())
    return found, unbounded == 0
