"""Random and outlier targets made to order, so that targets of one entropy and seed can be compared in pairs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from lit_prompt.data.families.base import gaussian_logits
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional import EntropyMatchError, descend_to_outliers, match_entropy, seed_for
from lit_prompt.lm import Vocabulary

# what is worked on at a time; the working memory is some ten times this MiB, which a CPU's cache holds
_ELEMENTS_PER_BLOCK = 2**18
# targets that wait for their partners; enough to fill a block of partners
_ITEMS_PER_PART = 64


@dataclass(frozen=True)
class Wish:
    """A target to be made.

    Attributes:
        target_id: the id that it gets.
        family: the family that it counts to.
        seed: decides the starting logits and the outlier tokens.
        entropy: nats.
        partner_of: id of the target that it is to be compared with.
        before: text before the prompt, or None for the module's.
        after: text after the prompt, or None for the module's.
    """

    target_id: str
    family: str
    seed: int
    entropy: float
    partner_of: str | None = None
    before: str | None = None
    after: str | None = None


def random_partners(targets: Iterable[Target], vocab_size: int) -> Iterator[Target | Rejected]:
    """Makes a random target of the same entropy and seed for each target, ``random/<id>`` of the family ``random``.

    Args:
        targets: read some at a time, as their partners are asked for.
        vocab_size: |V|.

    Yields:
        One item for each target, in their order.
    """
    return random_targets((_partner(target, "random") for target in targets), vocab_size)


def outlier_partners(
    targets: Iterable[Target], vocabulary: Vocabulary, k: int = 5, delta: float = 0.05
) -> Iterator[Target | Rejected]:
    """Makes an outlier target of the same entropy and seed for each target, ``outlier/<id>`` of the family ``outlier``.

    Args:
        targets: read some at a time, as their partners are asked for.
        vocabulary: its ordinary tokens may become outliers.
        k: number of outlier tokens.
        delta: largest accepted difference between their mass and the largest mass they can hold.

    Yields:
        One item for each target, in their order; :class:`Rejected` where no acceptable one was found.

    Raises:
        InputError: if k or delta does not fit.
    """
    return outlier_targets((_partner(target, "outlier") for target in targets), vocabulary, k, delta)


def with_partners(
    items: Iterable[Target | Rejected], *makers: Callable[[list[Target]], Iterable[Target | Rejected]]
) -> Iterator[Target | Rejected]:
    """Puts each target's partners right after it; what was rejected has none.

    Args:
        items: read some at a time.
        *makers: each gives one partner for each of some targets, in their order.

    Yields:
        The items in their order, each target followed by a partner from each maker.
    """
    left = iter(items)
    while part := list(islice(left, _ITEMS_PER_PART)):
        targets = [item for item in part if isinstance(item, Target)]
        partners = zip(*(make(targets) for make in makers), strict=True)
        for item in part:
            yield item
            if isinstance(item, Target):
                yield from next(partners)


def random_targets(wishes: Iterable[Wish], vocab_size: int) -> Iterator[Target | Rejected]:
    """Makes targets by descent on (H - h)^2 (see :func:`lit_prompt.functional.match_entropy`).

    Args:
        wishes: read some at a time.
        vocab_size: |V|.

    Yields:
        One item for each wish, in their order.
    """
    for block in _blocks(wishes, vocab_size):
        try:
            matched = list(match_entropy(_start(block, vocab_size), _entropies(block)))
        except EntropyMatchError as error:
            if len(block) == 1:
                yield Rejected(block[0].target_id, block[0].family, f"no random target: {error}")
            else:  # the others' are good, and the same when made alone
                for wish in block:
                    yield from random_targets([wish], vocab_size)
            continue
        for wish, row in zip(block, matched, strict=True):
            yield _target(wish, row, {"wanted_entropy": wish.entropy})


def outlier_targets(
    wishes: Iterable[Wish],
    vocabulary: Vocabulary,
    k: int,
    delta: float,
    a: float = 1.0,
    b: float = 100.0,
    lr: float = 0.1,
) -> Iterator[Target | Rejected]:
    """Makes targets with k random outlier tokens (see :func:`lit_prompt.functional.descend_to_outliers`).

    Args:
        wishes: read some at a time.
        vocabulary: its ordinary tokens may become outliers.
        k: number of outlier tokens.
        delta: largest accepted difference between their mass and the largest mass m they can hold.
        a: weight of the entropy's error.
        b: weight of the outliers' mass at the start.
        lr: step size of the descent (Adam).

    Yields:
        One item for each wish, in their order; :class:`Rejected` where entropy or mass is not as wanted.

    Raises:
        InputError: if a setting does not fit.
    """
    ordinary = np.array(vocabulary.ordinary_ids)
    available = min(len(ordinary), vocabulary.size - 1)
    if not 1 <= k <= available:
        raise InputError(f"outlier targets: {k} outlier tokens are not among 1 to {available} (ordinary tokens)")
    if not 0.0 <= delta < 1.0:
        raise InputError(f"outlier targets: delta is {delta:g}; give a mass of at least 0 and below 1")
    for name, value in (("a", a), ("b", b), ("lr", lr)):
        if not 0.0 < value < float("inf"):
            raise InputError(f"outlier targets: {name} is {value:g}; give a positive number")
    for block in _blocks(wishes, vocabulary.size):
        drawn = [np.random.default_rng(wish.seed).choice(ordinary, size=k, replace=False) for wish in block]
        ids = torch.from_numpy(np.stack(drawn))
        result = descend_to_outliers(_start(block, vocabulary.size), _entropies(block), ids, a, b, delta, lr)
        for i, wish in enumerate(block):
            h, mass, m = float(result.entropy[i]), float(result.mass[i]), float(result.max_mass[i])
            if result.accepted[i]:
                facts = {"k": k, "outlier_ids": ids[i].tolist(), "outlier_mass": mass, "max_outlier_mass": m}
                yield _target(wish, result.logits[i], {"wanted_entropy": wish.entropy, **facts})
            else:
                reason = (
                    f"no outlier target of entropy {wish.entropy:.4f} nats: the descent ended at {h:.4f} nats, with "
                    f"mass {mass:.4f} on its {k} outlier tokens; wanted are that entropy to 0.001 nats and a mass of "
                    f"{m - delta:.4f} or more (m = {m:.4f}, the most they can hold, less delta = {delta:g})"
                )
                yield Rejected(wish.target_id, wish.family, reason)


def _partner(target: Target, kind: str) -> Wish:
    """What a target's partner is to be like; a target without a seed has its id's."""
    seed = seed_for(target.target_id) if target.seed is None else target.seed
    names = (f"{kind}/{target.target_id}", kind)
    return Wish(*names, seed, target.entropy, target.target_id, target.before, target.after)


def _blocks(wishes: Iterable[Wish], vocab_size: int) -> Iterator[list[Wish]]:
    left = iter(wishes)
    while block := list(islice(left, max(1, _ELEMENTS_PER_BLOCK // vocab_size))):
        yield block


def _start(block: list[Wish], vocab_size: int) -> Tensor:
    """Logits ``[item, vocab]`` of which partners have the same ones."""
    return gaussian_logits([wish.seed for wish in block], vocab_size)


def _entropies(block: list[Wish]) -> Tensor:
    return torch.tensor([wish.entropy for wish in block], dtype=torch.float64)


def _target(wish: Wish, logits: Tensor, facts: dict[str, object]) -> Target:
    target = Target.from_logits(wish.target_id, wish.family, logits, wish.seed, **facts)
    target.partner_of, target.before, target.after = wish.partner_of, wish.before, wish.after
    return target
