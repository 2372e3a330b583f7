"""Groups of candidates by the position that they are computed from, against every possible grouping."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.scoring import prefix_groups
from lit_prompt.scoring.prefix_groups import group_by_start

CASES = st.integers(1, 7).flatmap(
    lambda length: st.tuples(st.just(length), st.lists(st.integers(0, length - 1), min_size=1, max_size=60))
)


def price(groups, length):
    return sum(prefix_groups._PASS_IN_POSITIONS + len(members) * (length - start) for start, members in groups)


def every_grouping(starts, length):
    """All ways to cut the changed positions into runs, each computed from its first."""
    positions = sorted(set(starts))
    for cuts in itertools.product([False, True], repeat=len(positions) - 1):
        runs = [[positions[0]]]
        for cut, position in zip(cuts, positions[1:], strict=True):
            if cut:
                runs.append([])
            runs[-1].append(position)
        yield [(run[0], [i for i, s in enumerate(starts) if s in run]) for run in runs]


@settings(deadline=None, max_examples=150)
@given(case=CASES, repeat=st.integers(1, 30))
def test_groups_hold_every_candidate_once_at_the_least_price(case, repeat):
    length, starts = case
    starts = starts * repeat
    groups = group_by_start(torch.tensor(starts), length)
    members = [i for _, own in groups for i in own.tolist()]
    assert sorted(members) == list(range(len(starts)))
    for start, own in groups:
        assert min(starts[i] for i in own.tolist()) == start
    prices = [price(other, length) for other in every_grouping(starts, length)]
    # the first grouping has one group, the last one for each position
    assert price(groups, length) == min(prices) <= min(prices[0], prices[-1])


def test_many_late_candidates_are_kept_from_a_few_early_ones():
    starts = torch.tensor([0] + [19] * 500)
    assert [(start, len(own)) for start, own in group_by_start(starts, 20)] == [(0, 1), (19, 500)]
    assert [(start, len(own)) for start, own in group_by_start(torch.tensor([0, 19]), 20)] == [(0, 2)]
