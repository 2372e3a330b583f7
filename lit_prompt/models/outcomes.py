"""What a target is over: the LM's tokens, or answers of several tokens and all else."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional import normalize_log_probs
from lit_prompt.functional.answer_tree import AnswerTree
from lit_prompt.functional.precision import double
from lit_prompt.lm import Sampling
from lit_prompt.scoring import Context, Member, PromptedLM
from lit_prompt.scoring.part import Part

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


class Reached(NamedTuple):
    """What an LM gives after prompts."""

    log_q: list[Tensor]  #: log-probabilities of outcomes, by the way of sampling, ``[row, outcome]``, float64
    bounded: Tensor  #: whether floors hold for all that was read, ``[row]``, bool


def reached_outcomes(
    prompted: PromptedLM,
    prompts: Tensor,
    rows: Sequence[Member],
    contexts: Sequence[Context],
    holds: Callable[[Tensor], Tensor],
    samplings: Sequence[Sampling],
) -> Reached:
    """Log-probabilities of outcomes after prompts.

    Args:
        prompted: the LM, in all of ``contexts``.
        prompts: a prompt for each row, as of :meth:`PromptedLM.each`.
        rows: what is read after each; of a member the context and the tree count.
        contexts: of ``prompted``.
        holds: whether floors bound what the LM gives for features ``[item, feature]``, ``[item]``, bool.
        samplings: the ways of sampling; of answers every token is drawn so.

    Returns:
        Outcomes are as of :func:`target_outcomes`.
    """
    numbers = {context: number for number, context in enumerate(contexts)}
    pairs = [(row, node, numbers[c]) for row, member in enumerate(rows) for node, c in enumerate(member.contexts)]
    which, nodes, places = torch.tensor(pairs, dtype=torch.long).view(-1, 3).unbind(1)
    trees = [member.tree for member in rows]
    size = (len(rows), width(trees, prompted.lm.vocab_size))
    found = [torch.full(size, -math.inf, dtype=torch.float64) for _ in samplings]
    edges = [
        [None if tree is None else torch.empty(len(tree.token), dtype=torch.float64) for tree in trees]
        for _ in samplings
    ]
    bounded = torch.ones(len(pairs), dtype=torch.bool)

    def fill(part: Part) -> None:
        features = part.last
        bounded[part.rows] = holds(features)
        logits = double(prompted.lm.logits(features))
        for sampling, outcomes, values in zip(samplings, found, edges, strict=True):
            log_q = normalize_log_probs(logits) if sampling.is_plain else sampling(logits)
            for row, node, own in zip(which[part.rows].tolist(), nodes[part.rows].tolist(), log_q, strict=True):
                tree, of_edges = trees[row], values[row]
                if tree is None or of_edges is None:
                    outcomes[row] = own
                else:
                    leaves = (tree.node == node).nonzero().flatten()
                    of_edges[leaves] = own[tree.token[leaves]]

    prompted.each(prompts, which, places, fill)
    for outcomes, values in zip(found, edges, strict=True):
        for row, (tree, of_edges) in enumerate(zip(trees, values, strict=True)):
            if tree is not None and of_edges is not None:
                outcomes[row, : len(tree) + 1] = tree.outcomes(of_edges)
    unbounded = torch.zeros(len(rows), dtype=torch.long).index_add_(0, which, (~bounded).long())
    return Reached(found, unbounded == 0)
