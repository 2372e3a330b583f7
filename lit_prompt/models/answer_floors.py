"""Floors of targets over answers of several tokens, from those of the inner nodes of their trees."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.data.target_set import fingerprints
from lit_prompt.records.floors import KnownFloor


@dataclass
class NodeTargets:
    """The next-token distributions in the inner nodes of some trees."""

    log_probs: Tensor  #: ``[node, vocab]``, float32

    @cached_property
    def fingerprints(self) -> list[str]:
        """SHA-256 over each, as of targets over tokens."""
        return fingerprints(self.log_probs)


def over_answers(
    batch: TargetBatch, solve: Callable[[TargetBatch | NodeTargets], list[KnownFloor | None]]
) -> list[KnownFloor | None]:
    """Floors of some targets: those of answers are sums of their nodes' floors, weighted with the nodes' probabilities.

    Such a floor holds and is loose, as no state is the best in all nodes. There is none over cells of several answers,
    for which the problem is not convex, or where a node has none.

    Args:
        batch: the targets.
        solve: gives the floors of distributions over tokens.
    """
    found: list[KnownFloor | None] = [None] * len(batch)
    if plain := [i for i, tree in enumerate(batch.trees) if tree is None]:
        for i, floor in zip(plain, solve(batch if len(plain) == len(batch) else batch.subset(plain)), strict=True):
            found[i] = floor
    for i, tree in enumerate(batch.trees):
        if tree is not None and tree.is_additive:
            nodes = solve(NodeTargets(tree.node_targets(batch.log_probs.shape[1])[tree.node_probs > 0]))
            found[i] = _sum(nodes, tree.node_probs[tree.node_probs > 0])
    return found


def _sum(nodes: list[KnownFloor | None], weights: Tensor) -> KnownFloor | None:
    known = [floor for floor in nodes if floor is not None]
    if len(known) < len(nodes):
        return None
    values = torch.tensor([[floor.kl_floor, floor.kl_ball, floor.kl_sphere] for floor in known], dtype=torch.float64)
    return KnownFloor(*(weights @ values).tolist())
