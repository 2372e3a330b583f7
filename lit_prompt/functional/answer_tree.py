"""Distributions over answers of several tokens, through the tree of their tokens."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


class AnswerTree:
    """Answers as paths through a tree of tokens; each belongs to a cell, and each cell has a probability.

    An answer's log-probability is the sum of those of the edges on its path (the chain rule), a cell's that of the sum
    of its answers' probabilities. Where every cell is a single answer, KL(target || LM) over answers is the sum over
    the inner nodes of p(node) * KL(p(. | node) || q(. | node)).

    Args:
        answers: token ids of each, none of which is the beginning of another.
        cells: number of each answer's cell.
        probs: of each cell; they sum to 1.

    Attributes:
        prefixes: tokens that lead to each inner node, the root first.
        node: the inner node that each edge leaves, ``[edge]``.
        token: the token of each edge, ``[edge]``.
        log_probs: of each cell, ``[cell]``, float64.

    Raises:
        ValueError: if an answer is empty, or the beginning of another.
    """

    def __init__(self, answers: Sequence[Sequence[int]], cells: Sequence[int], probs: Sequence[float]) -> None:
        nodes: dict[tuple[int, ...], int] = {(): 0}
        edges: dict[tuple[int, int], int] = {}
        paths: list[list[int]] = []
        for answer in answers:
            path, node = [], 0
            for depth, token in enumerate(answer):
                path.append(edges.setdefault((node, token), len(edges)))
                if depth + 1 < len(answer):
                    node = nodes.setdefault(tuple(answer[: depth + 1]), len(nodes))
            paths.append(path)
        leaves = {path[-1] for path in paths if path}
        inner = {edge for path in paths for edge in path[:-1]}
        if len(leaves) < len(paths) or leaves & inner:
            raise ValueError("an answer is empty or the beginning of another one")
        self.prefixes = list(nodes)
        self.node = torch.tensor([node for node, _ in edges])
        self.token = torch.tensor([token for _, token in edges])
        self.log_probs = torch.tensor(list(probs), dtype=torch.float64).log()
        self._cells = torch.tensor(list(cells))
        # edges beyond an answer's end are one more edge, of log-probability 0
        longest = max(map(len, paths))
        self._paths = torch.tensor([path + [len(edges)] * (longest - len(path)) for path in paths])

    def __len__(self) -> int:
        return len(self.log_probs)

    @property
    def entropy(self) -> float:
        """Of the cells' probabilities, nats."""
        p = self.log_probs.exp()
        return 0.0 - float(torch.where(p > 0, p * self.log_probs, 0.0).sum())

    @cached_property
    def is_additive(self) -> bool:
        """Whether every cell is a single answer, so that the KL is a sum over edges."""
        return len(self._cells) == len(self)

    @cached_property
    def edge_probs(self) -> Tensor:
        """Probability of the answers through each edge, ``[edge]``, float64; where the tree is additive."""
        assert self.is_additive
        found = torch.zeros(len(self.token) + 1, dtype=torch.float64)
        mass = self.log_probs.exp()[self._cells]
        found.index_add_(0, self._paths.flatten(), mass.repeat_interleave(self._paths.shape[1]))
        return found[:-1]

    @cached_property
    def node_probs(self) -> Tensor:
        """Probability of reaching each inner node, ``[node]``, float64; where the tree is additive."""
        return torch.zeros(len(self.prefixes), dtype=torch.float64).index_add_(0, self.node, self.edge_probs)

    def node_targets(self, vocab_size: int) -> Float[Tensor, "node vocab"]:
        """Log-probabilities of the next token in each inner node, float32; where the tree is additive."""
        found = torch.full((len(self.prefixes), vocab_size), -math.inf)
        found[self.node, self.token] = (self.edge_probs / self.node_probs[self.node]).log().float()
        return found

    def log_cells(self, log_q: Float[Tensor, "*batch edge"]) -> Float[Tensor, "*batch cell"]:
        """Log-probabilities of the cells from those of each edge's token in its node; differentiable."""
        paths, cells = self._paths.to(log_q.device), self._cells.to(log_q.device)
        answers = torch.cat([log_q, log_q.new_zeros(*log_q.shape[:-1], 1)], -1)[..., paths].sum(-1)
        if self.is_additive:
            return answers.new_empty(*answers.shape[:-1], len(self)).index_copy(-1, cells, answers)
        return torch.stack([answers[..., cells == cell].logsumexp(-1) for cell in range(len(self))], -1)

    def kl(self, log_q: Float[Tensor, "*batch edge"]) -> Float[Tensor, "*batch"]:
        """KL(target || LM) over the cells in nats, from log-probabilities as of :meth:`log_cells`; differentiable."""
        log_p = self.log_probs.to(log_q)
        p = log_p.exp()
        return torch.where(p > 0, p * (log_p - self.log_cells(log_q)), 0.0).sum(-1)

    def outcomes(self, log_q: Float[Tensor, "*batch edge"]) -> Float[Tensor, "*batch outcome"]:
        """Log-probabilities of the cells and, last, of everything else."""
        cells = self.log_cells(log_q)
        rest = (1.0 - cells.exp().sum(-1, keepdim=True)).clamp_min(0.0)
        return torch.cat([cells, rest.log()], -1)
