"""Outlier targets and their random partners."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from lit_prompt.data import families
from lit_prompt.data.families import Outlier, partners, wish
from lit_prompt.data.target import Rejected, Target
from lit_prompt.errors import InputError
from lit_prompt.functional import match_entropy, max_outlier_mass, outlier
from lit_prompt.lm import Vocabulary

SIZE = 330  # ten logits more than the tokenizer has tokens, as in padded LMs
TOKENS = 320
LN_V = math.log(TOKENS)
GRID = [0.3, 1.0, 3.0, 5.0]


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


@pytest.fixture(scope="module")
def made(vocabulary):
    return list(Outlier(entropies=GRID, per_entropy=2).targets(vocabulary))


def probs(target):
    return np.exp(target.log_probs.double().numpy())


def same(a, b):
    facts = ("target_id", "family", "seed", "entropy", "metadata", "partner_of", "before", "after")
    return all(getattr(a, f) == getattr(b, f) for f in facts) and torch.equal(a.log_probs, b.log_probs)


def start(seed):
    return torch.randn(1, TOKENS, generator=torch.Generator().manual_seed(seed))


def test_targets_and_partners_take_turns(made):
    ids = [f"outlier/H{h:.3f}/{i}" for h in GRID for i in range(2)]
    assert [t.target_id for t in made] == [name for i in ids for name in (i, f"random/{i}")]
    assert [t.partner_of for t in made] == [name for i in ids for name in (None, i)]
    assert [t.family for t in made] == ["outlier", "random"] * 8
    assert [t.seed for t in made[::2]] == [t.seed for t in made[1::2]]
    assert len({t.seed for t in made}) == 8


@pytest.mark.parametrize("k", [1, 5, 40])
def test_every_target_is_acceptable(k, vocabulary):
    made = list(Outlier(entropies=[0.05, *GRID, LN_V - 0.05], per_entropy=2, k=k, partners=False).targets(vocabulary))
    assert len(made) == 12
    for target in made:
        p, facts = probs(target), target.metadata
        assert p.sum() == pytest.approx(1.0, abs=1e-6)
        assert target.entropy == pytest.approx(scipy_entropy(p), abs=1e-9)
        assert abs(target.entropy - facts["wanted_entropy"]) <= 1e-3
        m = max_outlier_mass(torch.tensor(facts["wanted_entropy"], dtype=torch.float64), k, TOKENS).item()
        assert facts["max_outlier_mass"] == pytest.approx(m, abs=1e-12)
        assert facts["outlier_mass"] == pytest.approx(p[facts["outlier_ids"]].sum(), abs=1e-6)
        assert m - 0.05 <= facts["outlier_mass"] <= m + 1e-3
        assert facts["k"] == k == len(set(facts["outlier_ids"]))


def test_outliers_are_ordinary_tokens_that_the_seed_decides(made, vocabulary):
    drawn = [tuple(t.metadata["outlier_ids"]) for t in made[::2]]
    assert set().union(*drawn) <= set(vocabulary.ordinary_ids)
    assert len(set(drawn)) == 8
    whole = next(Outlier(entropies=[5.0], per_entropy=1, k=319, partners=False).targets(vocabulary))
    assert sorted(whole.metadata["outlier_ids"]) == vocabulary.ordinary_ids


def test_a_partner_is_the_random_target_of_that_start_and_entropy(made):
    for target, partner in zip(made[::2], made[1::2], strict=True):
        assert partner.metadata == {"wanted_entropy": target.entropy}
        assert abs(scipy_entropy(probs(partner)) - target.entropy) <= 1e-3
        logits = match_entropy(start(target.seed), torch.tensor([target.entropy], dtype=torch.float64))
        assert torch.equal(partner.log_probs[:TOKENS], Target.from_logits("", "", logits[0]).log_probs)


def test_partners_hold_less_on_the_outliers(made):
    for target, partner in zip(made[::2], made[1::2], strict=True):
        ids = target.metadata["outlier_ids"]
        assert probs(partner)[ids].sum() < 0.5 * target.metadata["outlier_mass"]


def test_partners_can_be_left_out(made, vocabulary):
    alone = list(Outlier(entropies=GRID, per_entropy=2, partners=False).targets(vocabulary))
    assert all(same(a, b) for a, b in zip(alone, made[::2], strict=True))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_target_depends_neither_on_its_block_nor_on_the_others(rows, made, vocabulary, monkeypatch):
    by_id = {t.target_id: t for t in made}
    monkeypatch.setattr(wish, "_ELEMENTS_PER_BLOCK", rows * TOKENS)
    monkeypatch.setattr(partners, "_ITEMS_PER_PART", 2)
    other = list(Outlier(entropies=[5.0, 2.0, 0.3], per_entropy=3).targets(vocabulary))
    shared = [t for t in other if t.target_id in by_id]
    assert len(shared) == 8
    assert all(same(t, by_id[t.target_id]) for t in shared)


def test_seed_and_name(made, vocabulary):
    other = list(Outlier(entropies=GRID, per_entropy=2, seed=1, name="few").targets(vocabulary))
    assert other[0].target_id == "few/H0.300/0"
    assert (other[1].target_id, other[1].partner_of) == ("random/few/H0.300/0", "few/H0.300/0")
    assert {t.family for t in other} == {"few", "random"}
    assert not {t.seed for t in other} & {t.seed for t in made}


def test_global_random_state_is_neither_read_nor_changed(made, vocabulary):
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    again = list(Outlier(entropies=GRID, per_entropy=2).targets(vocabulary))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(same(a, b) for a, b in zip(made, again, strict=True))


def test_metadata_is_json(made):
    for target in made:
        assert json.loads(json.dumps(target.metadata)) == target.metadata


def test_configs_find_it():
    assert "Outlier" in families.__all__


def test_the_default_grid_is_made_in_full(vocabulary):
    made = list(Outlier().targets(vocabulary))
    assert len(made) == 2 * 12 * 8
    assert all(isinstance(t, Target) for t in made)


def test_what_is_not_acceptable_is_reported_with_numbers_and_has_no_partner(vocabulary, monkeypatch):
    monkeypatch.setattr(outlier, "_STEPS", 20)
    made = list(Outlier(entropies=[1.0, 3.0], per_entropy=1).targets(vocabulary))
    assert [type(item) for item in made] == [Rejected, Rejected]
    assert [item.target_id for item in made] == ["outlier/H1.000/0", "outlier/H3.000/0"]
    assert {item.family for item in made} == {"outlier"}
    m = max_outlier_mass(torch.tensor([3.0]), 5, TOKENS).item()
    for part in ("entropy 3.0000 nats", "5 outlier tokens", f"m = {m:.4f}", f"{m - 0.05:.4f} or more", "delta = 0.05"):
        assert part in made[1].reason
    assert "\n" not in made[1].reason


def test_acceptable_ones_stay_beside_those_that_are_not(vocabulary, monkeypatch):
    whole = {t.target_id: t for t in Outlier(entropies=[0.5, 3.0], per_entropy=4).targets(vocabulary)}
    monkeypatch.setattr(outlier, "_STEPS", 150)  # enough at 0.5 nats, where all mass fits on the outliers
    made = list(Outlier(entropies=[0.5, 3.0], per_entropy=4).targets(vocabulary))
    assert [isinstance(item, Rejected) for item in made] == [False] * 8 + [True] * 4
    assert all(same(item, whole[item.target_id]) for item in made[:8])


ERRORS = {
    "no outliers": (Outlier(k=0), "outlier targets: 0 outlier tokens are not among 1 to 319"),
    "too many outliers": (Outlier(k=320), "320 outlier tokens are not among 1 to 319"),
    "negative delta": (Outlier(delta=-0.1), "delta is -0.1"),
    "delta that asks for nothing": (Outlier(delta=1.0), "delta is 1;"),
    "a": (Outlier(a=0.0), "a is 0; give a positive number"),
    "b": (Outlier(b=-1.0), "b is -1; give a positive number"),
    "lr": (Outlier(lr=math.nan), "lr is nan; give a positive number"),
    "entropy": (Outlier(entropies=[6.0], name="few"), r"family few: entropy 6 lies outside \[0, ln"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line(case, vocabulary):
    family, message = ERRORS[case]
    with pytest.raises(InputError, match=message) as error:
        list(family.targets(vocabulary))
    assert "\n" not in str(error.value)
