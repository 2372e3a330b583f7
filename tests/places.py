"""Slots of single targets, and round trips between two texts, as many tests want them."""

from lit_prompt.lm import RoundTrip, Vocabulary
from lit_prompt.lm.round_trip import Surroundings
from lit_prompt.scoring import Context, Member, Slots


def single_targets(names: list[str], contexts: list[Context], restarts: int = 1) -> Slots:
    """Slots of tasks that are a target each."""
    return Slots(names, [[Member(target, context)] for target, context in enumerate(contexts)], restarts)


def round_trip(vocabulary: Vocabulary, before: str, after: str) -> RoundTrip:
    """A round trip between two texts."""
    ids = vocabulary.encode_start(before), vocabulary.encode_after(after)
    return RoundTrip(vocabulary, [Surroundings(before, *ids, True, lambda prompt: f"{before}{prompt}{after}")])
