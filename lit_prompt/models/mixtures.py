"""The mixtures of a chunk's slots: what the LM gives after their components, and what the next one is searched by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_prompt.data import TargetBatch
from lit_prompt.functional.mixture import line_search, mixture_weights
from lit_prompt.lm import FrozenLM, Sampling
from lit_prompt.models.chunk import chunk_slots
from lit_prompt.models.outcomes import reached_outcomes, target_outcomes
from lit_prompt.objectives import MixtureKL
from lit_prompt.scoring import LMScorer, Member, PromptedLM, Slots
from lit_prompt.scoring.mixture_tree import MixtureTree
from lit_prompt.search.best_mixtures import BestMixtures

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


class Mixtures:
    """Reads the components of mixtures, adds prompts to them, and scores prompts that may be added.

    The targets of a task are one distribution over pairs of target and outcome, p(t) p(v | t), as a prompt is drawn
    once and for all of them with the same weights; outcomes are tokens or whole answers. So all that holds of a single
    target holds of a task.

    Args:
        module: has the LM, the contexts and the settings.
        batch: the targets.
        best: the mixtures so far, on the CPU.
    """

    def __init__(self, module: "PromptModule", batch: TargetBatch, best: BestMixtures) -> None:
        self._module = module
        self._batch = batch
        self._best = best
        self.slots = chunk_slots(module, batch)
        self._log_p = target_outcomes(batch)
        self._likely = [row.isfinite().nonzero().flatten() for row in self._log_p]  # outcomes that a target has

    def passes(self, prompts: int, slot: int) -> int:
        """Forward passes of the LM that reading so many prompts takes."""
        return prompts * len(self.slots.contexts_of(slot))

    @torch.no_grad()
    def read(self, slot: int, prompts: Tensor) -> list[Tensor]:
        """What the LM gives after prompts ``[prompt, ...]`` for each target of a slot's task.

        Probabilities, as tokens are sampled, of the outcomes that the target has, ``[prompt, outcome]``, float64.
        """
        module, found = self._module, []
        sampling = Sampling(temperature=module.temperature)
        for member in self.slots.targets(slot):
            contexts = list(dict.fromkeys(member.contexts))
            prompted = PromptedLM(module.lm, contexts, prompts.shape[1], module.micro_batch)
            reached = reached_outcomes(prompted, prompts, [member] * len(prompts), contexts, _unbounded, [sampling])
            found.append(reached.log_q[0][:, self._likely[member.target]].exp())
        return found

    def _joint(self, slot: int, of_targets: Sequence[Tensor]) -> Tensor:
        """Distributions of a task's pairs of target and outcome from those of its targets, ``[..., outcome]`` all."""
        weights = [member.weight for member in self.slots.targets(slot)]
        return torch.cat([weight * own for weight, own in zip(weights, of_targets, strict=True)], -1)

    def _target(self, slot: int) -> Tensor:
        places = [member.target for member in self.slots.targets(slot)]
        return self._joint(slot, [self._log_p[place, self._likely[place]].exp() for place in places])

    def add(self, slot: int, candidates: Tensor, most: int) -> None:
        """Adds the best of some prompts ``[prompt, ...]`` to a slot's mixture, as long as it has fewer than ``most``.

        Those that have left stand beside the others, and may come back: their weights are all made optimal.
        """
        best = self._best
        count = int(best.counts[slot]) if most > 1 else 0
        prompts = torch.cat([best.prompts[slot, :count], candidates.to(best.prompts)])
        best.forward_passes[slot] += self.passes(len(prompts), slot)
        p, q = self._target(slot), self._joint(slot, self.read(slot, prompts))
        chosen, weights = list(range(count)), best.weights[slot, :count]
        while len(chosen) < most:
            others = [place for place in range(count, len(prompts)) if place not in chosen]
            if not others:
                break
            if not chosen:
                kl = torch.where(p > 0, p * (p.log() - q[others].log()), 0.0).sum(1)
                share = torch.ones_like(kl)
            else:
                share, kl = line_search(p, weights @ q[chosen], q[others])
            place = int(kl.argmin())
            if not (share[place] > 0 and kl[place].isfinite()):
                break
            start = torch.cat([(1.0 - share[place]) * weights, share[place : place + 1]])
            chosen.append(others[place])
            found = mixture_weights(p, q[chosen], start=start)
            weights = found.weights
            best.kl[slot] = found.kl
        best.counts[slot] = len(chosen)
        best.prompts[slot, : len(chosen)] = prompts[chosen]
        best.weights[slot, : len(chosen)] = weights

    def next_component(self, number: int) -> "NextComponent":
        """The search for the next component of each slot, numbered from 0, beside the mixtures as they are."""
        share = 1.0 / (number + 1)
        members: list[list[Member]] = []
        items: list[int] = []
        log_ms: list[Tensor] = []
        passes = torch.zeros(len(self.slots), dtype=torch.long)
        for slot in range(len(self.slots)):
            own = []
            found, passes[slot] = self._log_m(slot)
            for member, log_m in zip(self.slots.targets(slot), found, strict=True):
                likely, tree = self._likely[member.target], member.tree
                row = torch.zeros(self._batch.log_probs.shape[1])
                if tree is None:
                    row[likely] = log_m.float()
                else:  # the row is not asked for
                    of_cells = torch.zeros(len(tree), dtype=torch.float64)
                    of_cells[likely] = log_m
                    tree = MixtureTree(tree, of_cells, share)
                own.append(replace(member, target=len(items), tree=tree))
                items.append(member.target)
                log_ms.append(row)
            members.append(own)
        names = [self.slots.name(slot) for slot in range(len(self.slots))]
        slots = Slots(names, members, apart=self.slots.restarts)
        objective = MixtureKL(torch.stack(log_ms), share)
        return NextComponent(self._module, slots, objective, self._batch.log_probs[items], passes)

    def _log_m(self, slot: int) -> tuple[list[Tensor], int]:
        """Ln m of the outcomes that each target of a slot's task has, and the forward passes made."""
        weights = self._best.weights[slot]
        there = weights > 0
        if not bool(there.any()) or not bool(self._best.running[slot]):  # nothing is searched for it
            return [torch.zeros(len(self._likely[member.target])) for member in self.slots.targets(slot)], 0
        own = self.read(slot, self._best.prompts[slot, there])
        return [(weights[there] @ q).log() for q in own], self.passes(int(there.sum()), slot)


@dataclass(frozen=True)
class NextComponent:
    """What is searched for one component more of each mixture.

    Attributes:
        slots: those of the chunk, each with targets of its own.
        objective: what a prompt does for the mixtures.
        log_probs: ln p of the targets, ``[target, vocab]``.
        passes: forward passes of the LM that it took to find out, ``[slot]``.
    """

    module: "PromptModule"
    slots: Slots
    objective: MixtureKL
    log_probs: Tensor
    passes: Tensor

    def scorer(self, lm: FrozenLM) -> LMScorer:
        """Scores prompts by what they do for the KL, nats: below 0 where they help."""
        module = self.module
        return LMScorer(
            lm, self.slots, self.log_probs, module.length, self.objective, module.micro_batch,
            temperature=module.temperature,
        )  # fmt: skip


def _unbounded(features: Tensor) -> Tensor:
    return torch.ones(len(features), dtype=torch.bool)
