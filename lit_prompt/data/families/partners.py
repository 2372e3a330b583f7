"""Random and outlier targets made to order, so that targets of one entropy and seed can be compared in pairs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import torch

from lit_prompt.data.families.wish import Wish, wish_blocks
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional import EntropyMatchError, descend_to_outliers, match_entropy, seed_for
from lit_prompt.lm import Vocabulary

# targets that wait for their partners; enough to fill a block of partners
_ITEMS_PER_PART = 64


def partner_wish(target: Target, kind: str) -> Wish:
    """What a target's partner ``<kind>/<id>`` of the family ``<kind>`` is to be like: of the same entropy and seed."""
    seed = seed_for(target.target_id) if target.seed is None else target.seed
    names = (f"{kind}/{target.target_id}", kind)
    return Wish(*names, seed, target.entropy, target.target_id, target.before, target.after)


def with_partners(
    items: Iterable[Target | Rejected], makers: Mapping[str, Callable[[list[Wish]], Iterable[Target | Rejected]]]
) -> Iterator[Target | Rejected]:
    """Puts each target's partners right after it; what was rejected has none.

    Args:
        items: read some at a time.
        makers: for each kind of partner what makes one for each of some wishes, in their order.

    Yields:
        The items in their order, each target followed by a partner of each kind.
    """
    left = iter(items)
    while part := list(islice(left, _ITEMS_PER_PART)):
        targets = [item for item in part if isinstance(item, Target)]
        made = (make([partner_wish(target, kind) for target in targets]) for kind, make in makers.items())
        partners = zip(*made, strict=True)
        for item in part:
            yield item
            if isinstance(item, Target):
                yield from next(partners)


def random_targets(wishes: Iterable[Wish], vocabulary: Vocabulary) -> Iterator[Target | Rejected]:
    """Makes a target for each wish by descent on (H - h)^2 (see :func:`lit_prompt.functional.match_entropy`)."""
    for block, start in wish_blocks(wishes, vocabulary):
        try:
            matched = match_entropy(start, torch.tensor([wish.entropy for wish in block]))
        except EntropyMatchError as error:
            if len(block) == 1:
                yield Rejected(block[0].target_id, block[0].family, f"no random target: {error}")
            else:  # the others' are good, and the same when made alone
                for wish in block:
                    yield from random_targets([wish], vocabulary)
            continue
        for wish, row in zip(block, matched, strict=True):
            yield wish.target(row, vocabulary)


def outlier_targets(
    wishes: Iterable[Wish],
    vocabulary: Vocabulary,
    k: int = 5,
    delta: float = 0.05,
    a: float = 1.0,
    b: float = 100.0,
    lr: float = 0.1,
) -> Iterator[Target | Rejected]:
    """Makes a target with k outlier tokens for each wish, or says why there is none.

    The settings are those of :class:`lit_prompt.data.families.Outlier`, the descent is that of
    :func:`lit_prompt.functional.descend_to_outliers`.

    Raises:
        InputError: if a setting does not fit.
    """
    ordinary, defined = np.array(vocabulary.ordinary_ids), np.array(vocabulary.defined_ids)
    available = min(len(ordinary), len(defined) - 1)
    if not 1 <= k <= available:
        raise InputError(f"outlier targets: {k} outlier tokens are not among 1 to {available} (ordinary tokens)")
    if not 0.0 <= delta < 1.0:
        raise InputError(f"outlier targets: delta is {delta:g}; give a mass of at least 0 and below 1")
    for name, value in (("a", a), ("b", b), ("lr", lr)):
        if not 0.0 < value < float("inf"):
            raise InputError(f"outlier targets: {name} is {value:g}; give a positive number")
    for block, start in wish_blocks(wishes, vocabulary):
        drawn = [np.random.default_rng(wish.seed).choice(ordinary, size=k, replace=False) for wish in block]
        ids = np.stack(drawn)
        places = torch.from_numpy(np.searchsorted(defined, ids))
        entropies = torch.tensor([wish.entropy for wish in block], dtype=torch.float64)
        result = descend_to_outliers(start, entropies, places, a, b, delta, lr)
        for i, wish in enumerate(block):
            h, mass, m = float(result.entropy[i]), float(result.mass[i]), float(result.max_mass[i])
            if result.accepted[i]:
                facts = {"k": k, "outlier_ids": ids[i].tolist(), "outlier_mass": mass, "max_outlier_mass": m}
                yield wish.target(result.logits[i], vocabulary, "ordinary", **facts)
            else:
                reason = (
                    f"no outlier target of entropy {wish.entropy:.4f} nats: the descent ended at {h:.4f} nats, with "
                    f"mass {mass:.4f} on its {k} outlier tokens; wanted are that entropy to 0.001 nats and a mass of "
                    f"{m - delta:.4f} or more (m = {m:.4f}, the most they can hold, less delta = {delta:g})"
                )
                yield Rejected(wish.target_id, wish.family, reason)
