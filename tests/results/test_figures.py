"""Pictures hold what they are said to hold."""

import numpy as np
import pytest

from lit_prompt.results.figures import sorted_probabilities

RANKS = np.array([1, 2, 4, 8])
CURVES = {
    "dense": np.linspace(0.1, 0.9, 24).reshape(6, 4)[:, ::-1],
    "sparse": np.array([[0.5, 0.5, 0.0, 0.0]] * 5),
    "few": np.array([[1.0, 0.0, 0.0, 0.0]]),
}


@pytest.fixture
def axes():
    return sorted_probabilities(CURVES, RANKS, "title").axes[0]


def lines_of(axes, color):
    return [line for line in axes.lines if line.get_color() == color]


def test_a_line_a_target_and_the_median(axes):
    thick = {line.get_label(): line for line in axes.lines if line.get_label() in CURVES}
    assert list(thick) == list(CURVES)
    assert len({line.get_color() for line in thick.values()}) == 3
    np.testing.assert_allclose(thick["dense"].get_ydata(), np.median(CURVES["dense"], axis=0))
    np.testing.assert_allclose(thick["sparse"].get_ydata(), [0.5, 0.5, np.nan, np.nan])
    assert np.isnan(thick["few"].get_ydata()).all()  # the median of one target would hide it
    thin = [line.get_ydata() for line in lines_of(axes, thick["dense"].get_color())[:6]]
    np.testing.assert_allclose(thin, CURVES["dense"])


def test_the_end_of_a_sparse_target_is_marked(axes):
    ends = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ends] == [
        ([], []),
        ([2] * 5, [0.5] * 5),
        ([1], [1.0]),
    ]


def test_tiny_probabilities_do_not_take_the_room():
    curves = {"f": np.array([[0.9, 0.1, 1e-20, 1e-40]])}
    low, high = sorted_probabilities(curves, RANKS, "").axes[0].get_ylim()
    assert 1e-10 < low < 1e-8
    assert 1.0 < high < 10.0
    low, _ = sorted_probabilities({"f": np.full((1, 4), 0.25)}, RANKS, "").axes[0].get_ylim()
    assert 0.01 < low < 0.25


def test_twenty_families_have_colors_of_their_own():
    curves = {f"f{i}": np.full((1, 4), 0.25) for i in range(20)}
    axes = sorted_probabilities(curves, RANKS, "").axes[0]
    assert len({line.get_color() for line in axes.lines if line.get_label() in curves}) == 20
