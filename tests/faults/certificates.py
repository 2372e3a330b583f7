"""Certified floors against gradients, on LMs of every architecture whose output heads are as bad as can be.

A pair is a prompt and a target's floor. Prompts are random embeddings, random tokens, and embeddings on their way down
by Adam, from random starts and from where the ball's KL is least. States in a prompt's place, which the final norm is
given, are random ones, from near zero to far out, nearly equal ones, which its arithmetic fails for, and descending
ones. KLs are those of an evaluation: features in the LM's precision, its head in float32, the rest in float64. As a
floor is already lowered by all that rounding can do (``OutputHead.slack``), nothing is allowed below it but the
rounding of float64.

``python -m tests.faults.certificates`` attacks every kind of LM and prints what came of it; the suite attacks some.
"""

import argparse
import itertools
import math
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_prompt.functional import kl_divergence, kl_floor, one_thread
from lit_prompt.functional.precision import double
from lit_prompt.lm import FrozenLM
from lit_prompt.models.floors import Floors
from tests.conftest import ARCHITECTURES, VOCABULARY
from tests.faults.commands import Try, table
from tests.faults.spoilt_heads import HEADS, some_targets, spoilt_lm

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FEWEST_STEPS = 20
_RANDOM = 64
_ROUNDING = 1e-9  # of a KL in float64, relative where it is above 1
# nats, much narrower than what users get: a gap of a thousandth would hide as large an error
_GAP = 1e-6
# on heads of many sizes a solver could go on for minutes; what it has by then is certified, too
_SOLVER_STEPS = 100


@dataclass(frozen=True)
class Pairs(Try):
    """Pairs of an LM, an attack and a result.

    Attributes:
        head: what was done to the LM's head, and in which dtype it is.
        least: smallest KL - floor, nats.
        slack: how much of it the floor was lowered by for the LM's rounding, nats.
    """

    head: str = ""
    least: float = math.inf
    slack: float = 0.0


class _Attacks:
    """Features of an LM after prompts, or after states that its final norm is given in their place."""

    def __init__(self, lm: FrozenLM, log_p: Tensor, aims: Tensor) -> None:
        self._lm, self._log_p, self._aims = lm, log_p, aims
        self._norm = self._last_norm()

    def _last_norm(self) -> nn.Module:
        called: list[nn.Module] = []
        norms = [module for module in self._lm.model.modules() if "norm" in type(module).__name__.lower()]
        hooks = [module.register_forward_hook(lambda module, *_: called.append(module)) for module in norms]
        self._lm.features(self._lm.embed(torch.zeros(1, 1, dtype=torch.long)))
        for hook in hooks:
            hook.remove()
        return called[-1]

    def _after_states(self, states: Tensor) -> Tensor:
        hook = self._norm.register_forward_pre_hook(lambda _, given: (states.unsqueeze(1).to(given[0].dtype),))
        try:
            return self._lm.features(torch.ones(len(states), 1, self._lm.embedding_dim))
        finally:
            hook.remove()

    def all(self, steps: int) -> Iterator[tuple[str, Tensor]]:
        """Names of attacks and features ``[prompt, feature]``; descents take so many steps."""
        width, dim = self._lm.embedding_dim, self._aims.shape[1]
        norms = torch.logspace(-3, 3, _RANDOM)
        with torch.no_grad():
            soft = norms.view(-1, 1, 1) * nn.functional.normalize(torch.randn(_RANDOM, 3, width), dim=2)
            yield "embeddings", self._lm.features(soft)
            yield "tokens", self._lm.features(self._lm.embed(torch.randint(VOCABULARY, (_RANDOM, 3))))
            yield "states", self._after_states(norms.unsqueeze(1) * torch.randn(_RANDOM, dim))
            means = torch.logspace(0, 12, _RANDOM).unsqueeze(1)
            yield "equal states", self._after_states(means * (1.0 + 0.05 * torch.rand(_RANDOM, dim)))
        count = len(self._log_p)
        # for each target from three starts, of which the first is so small that the norm leaves it within the ball
        scales = torch.tensor([1e-3, 10.0, 100.0]).repeat_interleave(count).unsqueeze(1)
        states = torch.cat([self._aims, torch.randn(count, dim), self._aims])
        yield from (("descent of states", x) for x in self._descent(self._after_states, states, scales, steps))
        prompts = torch.stack([torch.randn(3 * count, width), states[:, :width]], 1)
        for features in self._descent(self._lm.features, prompts, scales.unsqueeze(2), steps):
            yield "descent of embeddings", features

    def _descent(
        self, features_of: Callable[[Tensor], Tensor], start: Tensor, scales: Tensor, steps: int
    ) -> Iterator[Tensor]:
        x = start.clone().requires_grad_()
        log_p = self._log_p.repeat(len(start) // len(self._log_p), 1)
        adam = torch.optim.Adam([x], lr=0.1)
        for _ in range(steps):
            features = features_of(scales * x)
            yield features.detach()
            adam.zero_grad()
            kl_divergence(log_p, double(self._lm.logits(features))).sum().backward()
            adam.step()


def _attacked(architecture: str, head: str, dtype: str, pairs: int) -> Iterator[Pairs]:
    lm = spoilt_lm(architecture, head, DTYPES[dtype])
    batch = some_targets(lm)
    floors = Floors(lm, None)
    of = f"{head}, {dtype}"
    if floors.head is None:
        yield Pairs(architecture, of, "no floor", count=len(batch), head=of)
        return
    floor = kl_floor(floors.head, floors.head.terms(batch.log_probs), _GAP, _SOLVER_STEPS)
    lower, log_p, slack = floor.lower.unsqueeze(1), double(batch.log_probs), floors.head.slack
    if not bool((lower.isfinite() & (lower >= 0.0)).all()):
        yield Pairs(architecture, of, "no number", f"floors {floor.lower.tolist()}", head=of)
    attacks = _Attacks(lm, log_p, floor.point.float())
    steps = max(_FEWEST_STEPS, math.ceil(pairs / (6 * len(batch) ** 2)))
    for attack, features in attacks.all(steps):
        holds = floors.hold_for(features).expand(len(batch), -1)
        with torch.no_grad():
            kl = kl_divergence(log_p.unsqueeze(1), double(lm.logits(features)).unsqueeze(0))
        above = kl - lower
        sound = above >= -_ROUNDING * lower.clamp_min(1.0)  # a NaN is not
        zero = (lower == 0.0).expand_as(holds)
        results = {"above": ~zero & holds & sound, "floor is 0": zero & holds & sound, "does not hold": ~holds}
        for result, which in results.items():
            if count := int(which.sum()):
                least = float(above[which].min()) if result == "above" else math.inf
                yield Pairs(architecture, f"{of}, {attack}", result, count=count, head=of, least=least, slack=slack)
        if bool((below := holds & ~sound).any()):
            target, prompt = (int(i) for i in below.nonzero()[0])
            numbers = f"KL {float(kl[target, prompt])!r}, floor {float(lower[target])!r}, slack {slack:g}"
            what, least = f"{batch.target_id[target]}: {numbers}", float(above[below].min())
            yield Pairs(architecture, f"{of}, {attack}", "below", what, int(below.sum()), of, least, slack)


@one_thread()
def campaign(count: int, seed: int = 0, lms: int | None = None) -> list[Pairs]:
    """Attacks the floors of random LMs.

    Args:
        count: of pairs, at least; descents take as many steps as that needs, and no fewer than some.
        seed: of LMs, targets and prompts.
        lms: how many LMs, drawn from all kinds; None for one of each.
    """
    kinds = list(itertools.product(ARCHITECTURES, HEADS, DTYPES))
    random.Random(seed).shuffle(kinds)
    kinds = kinds[:lms]
    tries: list[Pairs] = []
    for number, kind in enumerate(sorted(kinds)):
        torch.manual_seed(seed + number)
        try:
            tries += _attacked(*kind, math.ceil(count / len(kinds)))
        except Exception:
            tries.append(Pairs(kind[0], ", ".join(kind[1:]), "broke", traceback.format_exc()[-600:]))
    return tries


def margins(tries: list[Pairs]) -> str:
    """A Markdown table of how near floors above zero KLs came, a row for each kind of head."""
    lines = [
        "| head | pairs | smallest KL - floor | slack | architecture, attack |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for head in sorted({t.head for t in tries if t.least < math.inf}):
        mine = [t for t in tries if t.head == head and t.least < math.inf]
        nearest = min(mine, key=lambda t: t.least)
        attack = f"{nearest.kind}, {nearest.what.rpartition(', ')[2]}"
        count = sum(t.count for t in mine)
        lines.append(f"| {head} | {count:,} | {nearest.least:.2e} | {nearest.slack:.2e} | {attack} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tries = campaign(options.pairs, options.seed)
    print(table(tries))
    print(margins(tries))
    sys.exit(any(t.violation for t in tries))
