"""Random and outlier partners of any target."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from lit_prompt.data.families import partners, wish
from lit_prompt.data.families.partners import outlier_targets, partner_wish, random_targets, with_partners
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional import EntropyMatchError, match_entropy, outlier
from lit_prompt.lm import Vocabulary

SIZE = 330  # ten logits more than the tokenizer has tokens, as in padded LMs


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


def probs(target):
    return np.exp(target.log_probs.double().numpy())


def same(a, b):
    facts = ("target_id", "family", "seed", "entropy", "metadata", "partner_of", "before", "after")
    return all(getattr(a, f) == getattr(b, f) for f in facts) and torch.equal(a.log_probs, b.log_probs)


def start(seed):
    return torch.randn(1, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def targets():
    """A dense target with a seed, a sparse one without, and one with all mass on a token."""
    dense = Target.from_logits("lm/0", "lm", 2 * start(5)[0], seed=5)
    dense.before, dense.after = "Once", " end"
    sparse = Target.from_weights("lm/1", "lm", torch.tensor([3, 70, 9]), torch.tensor([5.0, 2.0, 1.0]), SIZE, rest=1.0)
    one = Target.from_weights("lm/2", "lm", torch.tensor([3]), torch.tensor([1.0]), SIZE)
    return [dense, sparse, one]


def random_partners(targets, vocabulary):
    return random_targets((partner_wish(target, "random") for target in targets), vocabulary)


def outlier_partners(targets, vocabulary, *args, **kwargs):
    return outlier_targets((partner_wish(target, "outlier") for target in targets), vocabulary, *args, **kwargs)


@pytest.fixture(params=["random", "outlier"])
def kind(request, vocabulary):
    make = {
        "random": lambda targets: random_partners(targets, vocabulary),
        "outlier": lambda targets: outlier_partners(targets, vocabulary, k=3),
    }[request.param]
    return request.param, make


def test_partners_of_any_target(kind, targets):
    name, make = kind
    made = list(make(targets))
    assert [(p.target_id, p.family, p.partner_of) for p in made] == [
        (f"{name}/{t.target_id}", name, t.target_id) for t in targets
    ]
    for partner, target in zip(made, targets, strict=True):
        assert abs(scipy_entropy(probs(partner)) - target.entropy) <= 1e-3
        assert partner.metadata["wanted_entropy"] == target.entropy
        assert (partner.before, partner.after) == (target.before, target.after)
        assert partner.token_ids is None
    assert made[0].seed == 5
    assert made[1].seed is not None
    assert made[1].seed != made[2].seed
    if name == "outlier":
        for partner in made:
            ids, m = partner.metadata["outlier_ids"], partner.metadata["max_outlier_mass"]
            assert len(ids) == 3
            assert probs(partner)[ids].sum() >= m - 0.05


def test_partners_do_not_depend_on_the_other_targets(kind, targets):
    _, make = kind
    together = list(make(targets))
    assert all(same(next(make([t])), p) for t, p in zip(targets, together, strict=True))
    assert all(same(a, b) for a, b in zip(make(targets[::-1]), together[::-1], strict=True))


def test_partners_are_made_as_they_are_asked_for(kind, targets, monkeypatch):
    _, make = kind
    monkeypatch.setattr(wish, "_ELEMENTS_PER_BLOCK", 2 * 320)
    read = []
    made = make(read.append(t.target_id) or t for t in targets)
    assert read == []
    next(made)
    assert read == ["lm/0", "lm/1"]


def test_partners_follow_their_target(targets, vocabulary, monkeypatch):
    monkeypatch.setattr(partners, "_ITEMS_PER_PART", 2)
    lost = Rejected("lm/x", "lm", "why")
    items = [targets[0], lost, targets[1], targets[2]]
    makers = {
        "random": partial(random_targets, vocabulary=vocabulary),
        "outlier": partial(outlier_targets, vocabulary=vocabulary),
    }
    made = list(with_partners(items, makers))
    ids = [[t.target_id, f"random/{t.target_id}", f"outlier/{t.target_id}"] for t in targets]
    assert [item.target_id for item in made] == [*ids[0], "lm/x", *ids[1], *ids[2]]
    assert made[3] is lost


def test_an_outlier_partner_that_is_not_acceptable_is_reported(targets, vocabulary, monkeypatch):
    monkeypatch.setattr(outlier, "_STEPS", 5)
    made = list(outlier_partners(targets[:1], vocabulary))
    assert [(type(p), p.target_id, p.family) for p in made] == [(Rejected, "outlier/lm/0", "outlier")]
    assert f"no outlier target of entropy {targets[0].entropy:.4f} nats" in made[0].reason


def test_a_random_partner_that_cannot_be_made_is_reported_and_costs_no_other(targets, vocabulary, monkeypatch):
    whole = list(random_partners(targets, vocabulary))

    def match(logits, wanted):
        if (wanted == targets[1].entropy).any():
            raise EntropyMatchError("entropy was missed")
        return match_entropy(logits, wanted)

    monkeypatch.setattr(partners, "match_entropy", match)
    made = list(random_partners(targets, vocabulary))
    assert made[1] == Rejected("random/lm/1", "random", "no random target: entropy was missed")
    assert same(made[0], whole[0])
    assert same(made[2], whole[2])


@pytest.mark.parametrize(("k", "delta", "message"), [(0, 0.05, "0 outlier tokens"), (5, 2.0, "delta is 2")])
def test_settings_of_outlier_partners_are_checked(k, delta, message, targets, vocabulary):
    with pytest.raises(InputError, match=message):
        list(outlier_partners(targets, vocabulary, k, delta))
