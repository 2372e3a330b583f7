"""What findings say about data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from lit_prompt.report.claims import (
    entropy_findings,
    length_findings,
    maker_findings,
    method_findings,
    partner_findings,
)
from lit_prompt.report.excess import excess_sentences, parts_sentences
from lit_prompt.report.findings import Finding, adjusted, between, change, verdict
from lit_prompt.report.runs import read_runs
from lit_prompt.report.study import study_of
from lit_prompt.results.comparisons import Comparison, compare
from tests.report.conftest import SHARES, study_rows


@pytest.fixture
def study(make_run):
    def make(*runs):
        return study_of(read_runs([make_run(f"r{i}/version_0", rows) for i, rows in enumerate(runs)]))

    return make


def effect(ratio, low, high, p=1e-6, won=None):
    return Comparison("a", "b", 10, 10, ratio, 1.0, ratio, low, high, p, won)


def only(findings):
    (finding,) = findings
    (effect,) = finding.effects.values()
    return effect, finding


def test_tests_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(4.0, 0.5, 30), rng.gamma(4.0, 0.7, 30)
    assert compare("x", "y", x, y, paired=True).p == stats.wilcoxon(x, y).pvalue
    assert compare("x", "y", x, y, paired=False).p == stats.mannwhitneyu(x, y).pvalue
    assert compare("x", "y", x, x, paired=True).p == 1.0
    assert np.isnan(compare("x", "0", x, 0 * x, paired=True).ratio)


def test_a_bootstrap_of_many_targets_is_made_in_parts():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(4.0, 0.5, (2, 3000))
    found = compare("x", "y", x, y, paired=True)
    # the ratio's standard error by the delta method
    error = np.std((x - found.ratio * y) / y.mean()) / np.sqrt(3000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = rng.gamma(5.0, 0.4, 24)
        found = compare("x", "y", y * rng.uniform(0.4, 0.8, 24), y, paired=True)
        covered += found.low < 0.6 < found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_no_difference_is_seldom_called_one():
    lower = 0
    for seed in range(200):
        x, y = np.random.default_rng(seed).gamma(5.0, 0.4, (2, 16))
        lower += verdict(compare("x", "y", x, y, paired=True)) in ("lower", "higher")
    assert lower / 200 <= 0.08


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (effect(0.6, 0.5, 0.7), "lower"),
        (effect(1.6, 1.5, 1.7), "higher"),
        (effect(1.0, 0.96, 1.04, p=0.8), "same"),
        (effect(0.9, 0.7, 1.2, p=0.3), "unclear"),
        (effect(0.9, 0.8, 0.99, p=0.2), "unclear"),  # interval and test do not agree
        (effect(0.9, 0.8, 1.01, p=0.01), "unclear"),
        (effect(float("nan"), float("nan"), float("nan")), "unclear"),
    ],
)
def test_verdicts(found, said):
    assert verdict(found) == said


def test_p_values_are_adjusted_over_all_findings():
    raw = [0.01, 0.04, 0.03, 0.5, 1e-9]
    effects = [effect(0.5, 0.4, 0.6, p) for p in raw]
    parts = dict(zip("xy", effects[:2], strict=True)), dict(zip("xyz", effects[2:], strict=True))
    first, second = adjusted([Finding("a", "m", parts[0]), Finding("b", "m", parts[1])])
    # Benjamini and Hochberg by hand: p times tests over rank, made monotone from above
    order = np.argsort(raw)
    by_rank = np.array(raw)[order] * 5 / np.arange(1, 6)
    expected = np.empty(5)
    expected[order] = np.minimum.accumulate(by_rank[::-1])[::-1]
    assert [e.p for e in (*first.effects.values(), *second.effects.values())] == pytest.approx(expected.tolist())
    assert adjusted([]) == []


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.58, "42 % lower"), (0.005, "99.5 % lower"), (0.00073, "99.93 % lower"), (1.2, "20 % higher"),
     (3.14, "3.1 times as high"), (1e4, "over 100 times as high"), (0.996, "0.4 % lower"), (0.0, "100 % lower")],
)  # fmt: skip
def test_ratios_in_words(ratio, said):
    assert change(ratio) == said


def test_intervals_in_words():
    assert between(0.5, 0.6) == "40 to 50 % lower"
    assert between(1.2, 1.5) == "20 to 50 % higher"
    assert between(0.9, 1.3) == "10 % lower to 30 % higher"
    assert between(0.968, 0.971) == "2.9 to 3.2 % lower"
    assert between(1.5, 3.0) == "50 % higher to 3 times as high"


def test_findings_that_hold(study):
    data = study(study_rows())
    for finding in entropy_findings(data):
        assert finding.verdict == "lower"
        assert finding.headline == "holds"
    found = partner_findings(data)
    for family in ("own_lm", "other_lm", "other_tokenizer", "outlier"):
        effect, finding = only(found[family, "random"])
        assert finding.verdict == "lower"
        assert effect.low < SHARES[family] < effect.high
        assert effect.ratio == pytest.approx(SHARES[family], rel=0.1)
    effect, _ = only(found["own_lm", "outlier"])
    assert effect.ratio == pytest.approx(SHARES["own_lm"] / SHARES["outlier"], rel=0.1)
    own_other, own_tokenizer = maker_findings(data)
    assert own_other.effects["tales-llama"].ratio == pytest.approx(SHARES["own_lm"] / SHARES["other_lm"], rel=0.1)
    share = own_tokenizer.effects["tales-llama"].ratio
    assert share == pytest.approx(SHARES["own_lm"] / SHARES["other_tokenizer"], rel=0.1)
    assert "as a share of the random partner's" in own_other.sentence


def test_a_finding_that_fails_is_said_to_fail(study):
    data = study(study_rows({**SHARES, "outlier": 1.5}))
    (finding,) = partner_findings(data)["outlier", "random"]
    assert finding.verdict == "higher"
    assert finding.sentence.startswith("Does not hold: it is the other way round. On tales-llama, the mean KL is ")
    assert "% higher" in finding.sentence


def test_no_difference_is_said_to_be_none(study):
    data = study(study_rows({**SHARES, "outlier": 1.0}, noise=0.02))
    (finding,) = partner_findings(data)["outlier", "random"]
    assert finding.verdict == "same"
    assert finding.headline == "does not hold: the difference is below 5 %"


def test_what_cannot_be_told_is_not_told(study):
    data = study(study_rows({**SHARES, "outlier": 0.95}, noise=1.5, seed=1))
    (finding,) = partner_findings(data)["outlier", "random"]
    assert finding.verdict == "unclear"
    assert finding.headline == "cannot be told from these results"


def test_too_few_pairs_are_no_finding(study):
    assert partner_findings(study(study_rows(count=1))) == {}


def test_outcomes_on_several_lms_are_told_one_by_one(study):
    other = study_rows({**SHARES, "outlier": 1.5}, lm="x/gpt2", lm_fingerprint="g")
    (finding,) = partner_findings(study(study_rows(), other))["outlier", "random"]
    assert list(finding.effects) == ["tales-llama", "gpt2"]
    assert finding.verdict == "mixed"
    assert finding.headline == "holds on 1 of 2 LMs"
    assert "On tales-llama, the mean KL is " in finding.sentence
    assert "; on gpt2, it is " in finding.sentence


def test_methods_are_compared_on_the_targets_that_they_share(study):
    soft, hard = study_rows(seed=0), study_rows(seed=0, factor=1.3, method="gcg")
    hard = hard[40:]
    effect, finding = only(method_findings(study(hard, soft)))
    assert finding.claim == "soft comes closer than hard (gcg)"
    assert finding.method == ""
    assert effect.count == len(hard)
    assert effect.ratio == pytest.approx(1 / 1.3)
    assert effect.won == len(hard)


def test_long_prompts_are_compared_with_short_ones(study):
    lengths = [study_rows(factor=f, prompt_length=n) for f, n in ((1.0, 1), (0.9, 5), (0.8, 20))]
    effect, finding = only(length_findings(study(*lengths)))
    assert finding.claim == "soft: prompts of 20 tokens come closer than those of 1 token"
    assert effect.ratio == pytest.approx(0.8)


def test_excess_is_told_with_its_interval(study):
    rows = study_rows()
    assert excess_sentences(study(rows)) == []
    for i, row in enumerate(rows):
        row["excess"] = 0.001 if i % 4 == 0 else 0.2
        row["kl_floor"] = row["kl"] - row["excess"]
    data = study(rows)
    (said,) = excess_sentences(data)
    assert f"{len(rows) // 4} of {len(rows)} targets, 25 %, are within 0.01 nats" in said
    mean = np.mean([row["excess"] for row in rows])
    assert said.startswith(f"soft: on tales-llama, the mean KL is {mean:.4f} nats above the certified floor (95 %")


def test_the_parts_of_a_kl_add_up(study):
    rows = study_rows()
    assert parts_sentences(study(rows)) == []
    for row in rows:
        row |= {"kl_floor": 0.7 * row["kl"], "excess_norm": 0.2 * row["kl"], "excess_prompt": 0.1 * row["kl"]}
    (said,) = parts_sentences(study(rows))
    assert "70 % of the mean KL is due to the output head, 20 % to the final norm and 10.0 % to the prompt" in said
    assert "95 % interval 10.0 to 10.0 %" in said
