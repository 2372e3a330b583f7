import math

import numpy as np
import pyarrow as pa
import pytest

from lit_prompt.results import bootstrap
from lit_prompt.results.comparisons import comparisons, in_pairs

LN_V = math.log(4096)


def _table(rows):
    return pa.Table.from_pylist(
        [
            {"target_id": i, "family": f, "partner_of": of, "entropy": h, "kl": kl, "kl_uniform": LN_V - h}
            for i, f, of, h, kl in rows
        ],
        schema=pa.schema(
            [("target_id", pa.string()), ("family", pa.string()), ("partner_of", pa.string())]
            + [(name, pa.float64()) for name in ("entropy", "kl", "kl_uniform")]
        ),
    )


def _pairs(count=40, seed=0):
    rng = np.random.default_rng(seed)
    partner = rng.gamma(5.0, 0.4, count)
    own = partner * rng.uniform(0.4, 0.8, count)
    rows = [(f"own/{i}", "own", None, 4.0, own[i]) for i in range(count)]
    return own, partner, [*rows, *((f"r/{i}", "random", f"own/{i}", 4.0, partner[i]) for i in range(count))]


def test_pairs_against_a_bootstrap_by_hand():
    own, partner, rows = _pairs()
    (found,) = comparisons(_table(rows))
    assert found.name == "own / random, in pairs"
    assert (found.count, found.other_count, found.won) == (40, 40, 40)
    assert found.ratio == pytest.approx(own.mean() / partner.mean())
    draws = np.random.default_rng(1).integers(0, 40, (20000, 40))
    low, high = np.quantile(own[draws].mean(1) / partner[draws].mean(1), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)
    # as independent samples the same numbers would be far less certain
    other = np.random.default_rng(2).integers(0, 40, (20000, 40))
    unpaired = np.quantile(own[draws].mean(1) / partner[other].mean(1), [0.025, 0.975])
    assert found.high - found.low < 0.5 * (unpaired[1] - unpaired[0])


def test_pairs_are_found_by_id_not_by_order():
    _, _, rows = _pairs()
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    (a,), (b,) = comparisons(_table(rows)), comparisons(_table(mixed))
    assert (a.won, a.count) == (b.won, b.count)
    assert a.ratio == pytest.approx(b.ratio)


def test_targets_of_different_runs_are_no_pairs():
    _, _, rows = _pairs()
    names = ("target_id", "family", "partner_of", "entropy", "kl")
    first, second = ([dict(zip(names, row, strict=True), run=run) for row in rows] for run in "ab")
    for row in second:
        row["kl"] *= 3.0
    (alone,), (both,) = in_pairs(first), in_pairs([*first, *second])
    assert both.count == 2 * alone.count
    assert both.ratio == pytest.approx(alone.ratio)
    of_a, partners_of_b = first[:40], second[40:]
    assert in_pairs([*of_a, *partners_of_b]) == []


def test_targets_without_a_result_or_a_partner_do_not_count():
    own, partner, rows = _pairs(12)
    rows[0] = (*rows[0][:4], None)  # not searched: its partner stands alone
    rows.append(("r/99", "random", "own/99", 4.0, 1.0))  # compared with a target that is not here
    rows.append(("own/77", "own", None, 4.0, 1.0))
    rows.append(("own/78", "own", None, 4.0, math.nan))
    rows.append(("r/78", "random", "own/78", 4.0, 1.0))
    (found,) = comparisons(_table(rows))
    assert found.count == 11
    assert found.kl == pytest.approx(own[1:].mean())
    assert found.other_kl == pytest.approx(partner[1:].mean())


def test_low_and_high_entropies_against_moderate_ones():
    rng = np.random.default_rng(0)
    rows, expected = [], {}
    for name, h, level in (("low", 0.5, 0.2), ("moderate", 4.0, 2.0), ("high", 7.9, 0.5), ("between", 2.0, 9.0)):
        kl = level * rng.uniform(0.8, 1.2, 20)
        expected[name] = kl.mean()
        rows += [(f"{name}/{i}", "random", None, h, value) for i, value in enumerate(kl)]
    low, high = comparisons(_table(rows))
    assert (low.name, high.name) == (
        "random: low entropy / moderate entropy",
        "random: high entropy / moderate entropy",
    )
    assert low.ratio == pytest.approx(expected["low"] / expected["moderate"])
    assert high.ratio == pytest.approx(expected["high"] / expected["moderate"])
    assert low.low < low.ratio < low.high < 0.2
    assert low.won is None
    assert (low.count, low.other_count) == (20, 20)


def test_no_difference_is_reported_as_none():
    rng = np.random.default_rng(3)
    kl = rng.gamma(5.0, 0.4, (60, 2))
    rows = [(f"a/{i}", "a", None, 4.0, kl[i, 0]) for i in range(60)]
    rows += [(f"b/{i}", "b", f"a/{i}", 4.0, kl[i, 1]) for i in range(60)]
    (found,) = comparisons(_table(rows))
    assert found.low < 1.0 < found.high


def test_too_few_targets_are_not_compared():
    assert comparisons(_table(_pairs(4)[2])) == []
    assert comparisons(_table([("a", "f", None, 0.1, 1.0)])) == []
    assert comparisons(_table([])) == []


def test_very_many_values_have_the_interval_that_resampling_each_of_them_gives(monkeypatch):
    rng = np.random.default_rng(0)
    x = np.sort(rng.gamma(2.0, 1.0, 12_001))
    y = x * rng.gamma(9.0, 1 / 9, x.size)

    def ratio(x, y, axis=-1):
        return x.mean(axis) / y.mean(axis)

    for paired in (True, False):
        fast = np.array(bootstrap.interval(ratio, x, y, paired=paired))
        with monkeypatch.context() as patched:
            patched.setattr(bootstrap, "_MOST", x.size)
            slow = np.array(bootstrap.interval(ratio, x, y, paired=paired))
        assert np.abs(fast - slow).max() < 0.1 * (slow[1] - slow[0])
