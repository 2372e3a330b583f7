"""How the rounds of a search for mixtures share its budget, and when it ends."""

import torch

from lit_prompt.search import BestSoFar, StopReason
from lit_prompt.search.best_mixtures import BestMixtures

PROMPTS = torch.zeros(3, 2, dtype=torch.long)


def made(**limits):
    settings = {"kl_tolerance": 0.1, "patience": 2, "max_forward_passes": None, "max_seconds": None} | limits
    return BestMixtures(PROMPTS, 3, **settings)


def observed(best: BestSoFar, *kl, passes=1):
    best.observe(torch.tensor(kl), PROMPTS + 7, torch.full((3,), passes), missing=True)
    best.spend(best.running, 0.0)


def test_each_round_has_its_share_of_the_passes():
    mixtures = made(max_forward_passes=10)
    assert [mixtures.of_round(n, PROMPTS).max_forward_passes for n in range(3)] == [4, 7, 10]
    first = mixtures.of_round(0, PROMPTS)
    observed(first, 1.0, 2.0, 3.0, passes=5)
    assert not first.running.any()
    mixtures.follow(0, first)
    mixtures.end_round(0, first)
    assert mixtures.running.all()  # for the next round
    second = mixtures.of_round(1, PROMPTS)
    assert second.running.all()
    assert second.forward_passes.tolist() == [5, 5, 5]


def test_the_first_round_is_a_mixture_of_one():
    mixtures = made()
    first = mixtures.of_round(0, PROMPTS)
    observed(first, 1.0, float("inf"), 0.05)
    mixtures.follow(0, first)
    assert mixtures.kl.tolist()[0] == 1.0
    assert mixtures.counts.tolist() == [1, 0, 1]
    assert mixtures.weights[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert mixtures.prompts[0, 0].tolist() == [7, 7]
    first.end(torch.tensor([False, True, False]), StopReason.NOT_FINITE)
    mixtures.end_round(0, first)
    # one goes on, one has nothing to add to, one is good enough
    assert mixtures.reason.tolist() == [StopReason.RUNNING, StopReason.NOT_FINITE, StopReason.KL_TOLERANCE]
    assert mixtures.of_round(1, PROMPTS).running.tolist() == [True, False, False]


def test_a_later_round_ends_by_patience_and_never_as_a_component_is_good_enough():
    mixtures = made()
    mixtures.kl.fill_(1.0)
    mixtures.counts.fill_(1)
    for number, reason in ((1, StopReason.RUNNING), (2, StopReason.PATIENCE)):
        best = mixtures.of_round(number, PROMPTS)
        observed(best, -3.0, -2.0, -1.0)
        assert best.running.all()
        observed(best, 0.0, 0.0, 0.0)
        observed(best, 0.0, 0.0, 0.0)
        mixtures.follow(number, best)
        assert mixtures.kl.tolist() == [1.0] * 3
        mixtures.end_round(number, best)
        assert mixtures.reason.tolist() == [reason] * 3
