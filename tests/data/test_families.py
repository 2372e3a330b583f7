"""Families of targets: what they make, and that nothing else has a say in it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from tokenizers import AddedToken

from lit_prompt.data.families import (
    Dirichlet,
    EntropyMatched,
    OneHot,
    Outlier,
    Temperature,
    UniformSubset,
    entropy_grid,
    wish,
)
from lit_prompt.data.families.base import entropy_labels
from lit_prompt.data.target import Target
from lit_prompt.errors import InputError
from lit_prompt.functional import seed_for
from lit_prompt.lm import Vocabulary

SIZE = 330  # ten logits more than the tokenizer has tokens, as in padded LMs
TOKENS = 320
LN_V = math.log(TOKENS)
GRID = [0.5, 1.0, 2.5, 4.0]


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of small operations: threads that wait for one another make them slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


#: name: (family with its defaults for the rest, number of targets)
FAMILIES = {
    "entropy_matched": (lambda **k: EntropyMatched(entropies=GRID, per_entropy=2, **k), 8),
    "temperature": (lambda **k: Temperature(entropies=GRID, per_entropy=3, **k), 12),
    "dirichlet": (lambda **k: Dirichlet(concentrations=(0.001, 0.1, 1.0), per_concentration=4, **k), 12),
    "uniform": (lambda **k: UniformSubset(sizes=(1, 2, 64, 319), per_size=3, **k), 12),
    "one_hot": (lambda **k: OneHot(count=6, **k), 6),
}
IDS = {
    "entropy_matched": ("random/H0.500/0", "random/H4.000/1"),
    "temperature": ("temperature/H0.500/0", "temperature/H4.000/2"),
    "dirichlet": ("dirichlet/a0.001/0", "dirichlet/a1/3"),
    "uniform": ("uniform/k1/0", "uniform/k319/2"),
}
ALL = pytest.mark.parametrize("name", FAMILIES)


def targets(family, vocabulary):
    return list(family.targets(vocabulary))


def by_id(family, vocabulary):
    return {target.target_id: target for target in family.targets(vocabulary)}


def dense(target):
    return target.dense(SIZE)


def same(a, b):
    return a.seed == b.seed and a.metadata == b.metadata and torch.equal(dense(a), dense(b))


def log_p(target):
    """As float64 numbers over the whole vocabulary."""
    return dense(target).double().numpy()


@ALL
def test_count_and_unique_ids(name, vocabulary):
    make, count = FAMILIES[name]
    ids = [t.target_id for t in make().targets(vocabulary)]
    assert len(ids) == count
    assert len(set(ids)) == count


@pytest.mark.parametrize("name", IDS)
def test_ids_are_stable(name, vocabulary):
    made = targets(FAMILIES[name][0](), vocabulary)
    assert (made[0].target_id, made[-1].target_id) == IDS[name]


def test_one_hot_ids_name_the_token(vocabulary):
    made = targets(OneHot(tokens=["a", " a", 301]), vocabulary)
    assert [t.target_id for t in made] == ["one_hot/0/a", "one_hot/1/ a", "one_hot/2/no"]


@ALL
def test_names_go_into_family_and_ids(name, vocabulary):
    for target in FAMILIES[name][0](name="mine").targets(vocabulary):
        assert target.family == "mine"
        assert target.target_id.startswith("mine/")


@ALL
def test_log_probs_are_normalised_float32(name, vocabulary):
    for target in FAMILIES[name][0]().targets(vocabulary):
        assert target.log_probs.dtype == torch.float32
        assert dense(target).shape == (SIZE,)
        assert abs(np.exp(log_p(target)).sum() - 1.0) < 1e-6


@ALL
def test_the_stated_entropy_is_the_distributions(name, vocabulary):
    for target in FAMILIES[name][0]().targets(vocabulary):
        assert target.entropy == pytest.approx(scipy_entropy(np.exp(log_p(target))), abs=1e-12)
        assert 0.0 <= target.entropy <= LN_V + 1e-6


@ALL
def test_the_wanted_entropy_is_reached(name, vocabulary):
    for target in FAMILIES[name][0]().targets(vocabulary):
        wanted = {
            "entropy_matched": lambda m: m["wanted_entropy"],
            "temperature": lambda m: m["wanted_entropy"],
            "uniform": lambda m: math.log(m["k"]),
            "one_hot": lambda m: 0.0,
            "dirichlet": lambda m: None,
        }[name](target.metadata)
        if wanted is not None:
            measured = scipy_entropy(np.exp(log_p(target)))
            assert measured == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("make", "lowest"), [(EntropyMatched, 0.05), (Temperature, 0.0)])
def test_the_ends_of_the_range_are_reached(make, lowest, vocabulary):
    made = targets(make(entropies=[lowest, LN_V], per_entropy=1), vocabulary)
    measured = [scipy_entropy(np.exp(log_p(t))) for t in made]
    assert measured == pytest.approx([lowest, LN_V], abs=1e-3)


@ALL
def test_the_same_seed_makes_the_same_targets(name, vocabulary):
    make, _ = FAMILIES[name]
    first, second = targets(make(seed=7), vocabulary), targets(make(seed=7), vocabulary)
    assert [t.target_id for t in first] == [t.target_id for t in second]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


@ALL
def test_another_seed_makes_other_targets(name, vocabulary):
    make, _ = FAMILIES[name]
    first, second = targets(make(seed=7), vocabulary), targets(make(seed=8), vocabulary)
    assert all(a.seed != b.seed for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(dense(a), dense(b)) for a, b in zip(first, second, strict=True))


@ALL
def test_targets_of_a_family_differ(name, vocabulary):
    made = targets(FAMILIES[name][0](), vocabulary)
    assert len({t.seed for t in made}) == len(made)
    assert len({dense(t).numpy().tobytes() for t in made}) > len(made) / 2


@ALL
def test_global_random_state_is_neither_read_nor_changed(name, vocabulary):
    make, _ = FAMILIES[name]
    torch.manual_seed(0)
    first, state = targets(make(), vocabulary), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert all(same(a, b) for a, b in zip(first, make().targets(vocabulary), strict=True))


MORE_AND_FEWER = {
    "entropy_matched": (
        EntropyMatched(entropies=[1.0, 4.0], per_entropy=3),
        EntropyMatched(entropies=[4.0, 0.3, 2.0, 1.0], per_entropy=1),
    ),
    "temperature": (
        Temperature(entropies=[1.0, 4.0], per_entropy=3),
        Temperature(entropies=[4.0, 0.3, 2.0, 1.0], per_entropy=1),
    ),
    "dirichlet": (
        Dirichlet(concentrations=(0.1, 1.0), per_concentration=3),
        Dirichlet(concentrations=(1.0, 0.5, 0.1), per_concentration=1),
    ),
    "uniform": (UniformSubset(sizes=(2, 8), per_size=3), UniformSubset(sizes=(8, 4, 2), per_size=1)),
    "one_hot": (OneHot(count=5), OneHot(count=2)),
}


@pytest.mark.parametrize("name", MORE_AND_FEWER)
def test_a_target_does_not_depend_on_the_others(name, vocabulary):
    more, fewer = (by_id(family, vocabulary) for family in MORE_AND_FEWER[name])
    shared = more.keys() & fewer.keys()
    assert len(shared) == 2
    assert all(same(more[i], fewer[i]) for i in shared)


@pytest.mark.parametrize("make", [EntropyMatched, Temperature])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_target_does_not_depend_on_the_block_it_is_made_in(make, rows, vocabulary, monkeypatch):
    family = make(entropies=[0.5, 3.0], per_entropy=4)
    whole = by_id(family, vocabulary)
    monkeypatch.setattr(wish, "_ELEMENTS_PER_BLOCK", rows * TOKENS)
    parts = by_id(family, vocabulary)
    assert list(whole) == list(parts)
    assert all(same(whole[i], parts[i]) for i in whole)


@pytest.fixture(scope="module")
def with_reserved(tokenizer):
    """A vocabulary with a special token that has no role, as Llama 3's reserved ones."""
    from transformers import PreTrainedTokenizerFast

    raw = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    raw.add_special_tokens([AddedToken("<|reserved|>", special=True)])
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>"), SIZE)


def test_random_tokens_are_never_special_nor_padding(with_reserved):
    allowed = set(range(1, 320))  # 0 is <|endoftext|>, 320 <|reserved|>, the rest has no token
    for target in UniformSubset(sizes=(319,), per_size=1).targets(with_reserved):
        assert set(dense(target).isfinite().nonzero().flatten().tolist()) == allowed
    for target in OneHot(count=300).targets(with_reserved):
        assert target.metadata["token_id"] in allowed


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("entropy_matched", "defined"), ("temperature", "defined"), ("dirichlet", "defined"),
        ("uniform", "ordinary"), ("one_hot", "ordinary"), ("outlier", "ordinary"),
    ],
)  # fmt: skip
def test_a_family_names_the_tokens_that_are_exchangeable(name, alike, with_reserved):
    make = {**FAMILIES, "outlier": (lambda: Outlier([3.0], per_entropy=8, partners=False), 8)}[name][0]
    made = targets(make(), with_reserved)
    assert {target.exchangeable for target in made} == {alike}
    ids = {"defined": with_reserved.defined_ids, "ordinary": with_reserved.ordinary_ids}[alike]
    special = [0, 320]  # <|endoftext|>, <|reserved|>
    assert set(special).isdisjoint(ids) == (alike == "ordinary")
    top = {int(log_p(target).argmax()) for target in made}
    assert top <= set(ids)
    # what is not exchangeable and not fixed has no mass
    assert all(np.isinf(log_p(target)[321:]).all() for target in made)


def test_what_is_named_or_a_partner_is_not_exchangeable(vocabulary):
    named = targets(OneHot(tokens=[5]), vocabulary)
    partners = [t for t in targets(Outlier([3.0], per_entropy=2), vocabulary) if t.partner_of is not None]
    assert [target.exchangeable for target in named + partners] == [None] * 3


@pytest.mark.parametrize("k", [1, 2, 64])
def test_uniform_subset_is_uniform_over_k_tokens(k, vocabulary):
    for target in UniformSubset(sizes=(k,), per_size=3).targets(vocabulary):
        p = dense(target).double().exp()
        assert int((p > 0).sum()) == k
        assert p[p > 0].tolist() == pytest.approx([1 / k] * k, rel=1e-6)


def test_one_hot_is_exact(vocabulary):
    for target in OneHot(tokens=[0, 65, TOKENS - 1]).targets(vocabulary):
        token = target.metadata["token_id"]
        assert dense(target)[token].item() == 0.0
        assert int(dense(target).isfinite().sum()) == 1
        assert str(target.entropy) == "0.0"  # not -0.0
        assert target.seed is None


def test_one_hot_takes_texts_and_ids(vocabulary):
    made = targets(OneHot(tokens=["no", " a", 65]), vocabulary)
    assert [t.metadata["token_id"] for t in made] == [301, 260, 65]


def test_one_hot_of_no_token_is_no_target(vocabulary):
    assert targets(OneHot(tokens=[]), vocabulary) == []


def test_dirichlet_has_the_right_mean_entropy(vocabulary):
    """E[H] = digamma(V a + 1) - digamma(a + 1) for a symmetric Dirichlet."""
    from scipy.special import digamma

    for alpha in (0.01, 1.0):
        made = targets(Dirichlet(concentrations=(alpha,), per_concentration=200), vocabulary)
        entropies = np.array([t.entropy for t in made])
        expected = digamma(TOKENS * alpha + 1) - digamma(alpha + 1)
        assert abs(entropies.mean() - expected) < 4 * entropies.std() / math.sqrt(len(made))


def test_dirichlet_stays_finite_at_tiny_concentrations(vocabulary):
    for target in Dirichlet(concentrations=(1e-6,), per_concentration=5).targets(vocabulary):
        assert target.log_probs.double().exp().sum().item() == pytest.approx(1.0, abs=1e-6)


# ---- grids ----


@pytest.mark.parametrize("count", [2, 3, 12])
def test_a_number_of_entropies_is_spaced_evenly(count):
    expected = np.linspace(0.1, LN_V - 0.1, count)
    np.testing.assert_allclose(entropy_grid(count, TOKENS, "x"), expected, rtol=0, atol=1e-12)


def test_one_entropy_is_the_middle():
    assert entropy_grid(1, TOKENS, "x") == pytest.approx([LN_V / 2])


def test_a_list_of_entropies_is_taken_as_it_is():
    assert entropy_grid([3.0, 0.0, LN_V], TOKENS, "x") == [3.0, 0.0, LN_V]


def test_entropies_that_three_decimals_do_not_tell_apart_have_more():
    close = [0.1, 0.1001, 0.10012, 3.0, 2.9994]
    labels = entropy_labels(close)
    assert [labels[h] for h in close] == ["H0.1000", "H0.10010", "H0.10012", "H3.000", "H2.999"]


@pytest.mark.parametrize("make", [EntropyMatched, Temperature])
def test_a_fine_grid_has_unique_ids(make, vocabulary):
    made = targets(make(entropies=[0.5, 0.5001, 0.50012, 3.0], per_entropy=2), vocabulary)
    assert [t.target_id.split("/")[1] for t in made[::2]] == ["H0.5000", "H0.50010", "H0.50012", "H3.000"]
    assert len({t.target_id for t in made}) == len({t.seed for t in made}) == 8


@given(st.lists(st.floats(0, 12), unique=True))
def test_labels_are_unique_and_true(entropies):
    labels = entropy_labels(entropies)
    assert len(set(labels.values())) == len(labels) == len(entropies)
    assert all(float(label[1:]) == pytest.approx(h, abs=5.001e-4) for h, label in labels.items())


# ---- errors ----

ERRORS = {
    "entropy below 0": (
        lambda: EntropyMatched(entropies=[-0.1]),
        r"family random: entropy -0.1 lies outside \[0, ln\|V\|\]",
    ),
    "entropy above ln V": (
        lambda: Temperature(entropies=[1.0, 5.9]),
        r"family temperature: entropy 5.9 .* \[0, 5.7683\]",
    ),
    "entropy twice": (lambda: Temperature(entropies=[1.0, 2.0, 1.0]), "entropy 1 is listed twice.* set per_entropy"),
    "entropy not a number": (lambda: Temperature(entropies=[math.nan]), "entropy nan lies outside"),
    "no entropies": (lambda: EntropyMatched(entropies=0), "entropies is 0"),
    "negative number of entropies": (lambda: Temperature(entropies=-3), "entropies is -3"),
    "size 0": (lambda: UniformSubset(sizes=(0,)), "family uniform: 0 tokens are not among 1 to 319"),
    "size too big": (lambda: UniformSubset(sizes=(320,)), "320 tokens are not among 1 to 319 ordinary tokens"),
    "concentration 0": (
        lambda: Dirichlet(concentrations=(0.0,)),
        "family dirichlet: concentration 0 is not a positive",
    ),
    "negative concentration": (lambda: Dirichlet(concentrations=(-1.0,)), "concentration -1 is not a positive"),
    "infinite concentration": (lambda: Dirichlet(concentrations=(math.inf,)), "concentration inf is not"),
    "concentration not a number": (lambda: Dirichlet(concentrations=(math.nan,)), "concentration nan is not"),
    "unknown id": (lambda: OneHot(tokens=[SIZE]), "family one_hot: token id 330 is not among 0 to 329"),
    "negative id": (lambda: OneHot(tokens=[-1]), "token id -1 is not among"),
    "text that splits": (
        lambda: OneHot(tokens=["yes"]),
        r"family one_hot: 'yes' .* splits into \['y', 'es'\] \(ids \[89, 270\]\)",
    ),
    "empty text": (lambda: OneHot(tokens=[""]), "'' is not exactly one token"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_family_in_one_line(case, vocabulary):
    make, message = ERRORS[case]
    with pytest.raises(InputError, match=message) as error:
        targets(make(), vocabulary)
    assert "\n" not in str(error.value)


# ---- targets and seeds ----


def test_seed_for_is_the_same_everywhere():
    assert seed_for(0, "H1.000", 2) == 8608030141682248766  # sha256sum, by hand
    assert 0 <= seed_for("x") < 2**63


def test_seed_for_tells_parts_apart():
    parts = [(1, 23), (12, 3), (123,), ("1", "2", "3"), (), ("",), (1, 23, "")]
    assert len({seed_for(*p) for p in parts}) == len(parts) - 1  # no part is the empty part


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_from_logits_normalises_any_dtype(dtype):
    logits = torch.tensor([300.0, 301.0, -math.inf]).to(dtype)
    target = Target.from_logits("t", "f", logits, 3, note="x")
    p = np.exp(target.log_probs.double().numpy())
    expected = np.exp([0.0, float(logits[1] - logits[0]), -np.inf])
    np.testing.assert_allclose(p, expected / expected.sum(), rtol=1e-6)
    assert (target.seed, target.metadata) == (3, {"note": "x"})
