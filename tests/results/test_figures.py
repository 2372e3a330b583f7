"""Pictures hold what they are said to hold."""

import math

import numpy as np
import pytest
from matplotlib import colormaps

from lit_prompt.results.figures import sorted_probabilities

RANKS = np.array([1, 2, 4, 8])
CURVES = {
    "dense": np.linspace(0.1, 0.9, 24).reshape(6, 4)[:, ::-1],
    "sparse": np.array([[0.5, 0.5, 0.0, 0.0]] * 5),
    "few": np.array([[1.0, 0.0, 0.0, 0.0]]),
}
ENTROPY = {"dense": np.linspace(0.0, math.log(8), 6), "sparse": np.full(5, math.log(2)), "few": np.zeros(1)}


@pytest.fixture
def panels():
    figure = sorted_probabilities(CURVES, ENTROPY, RANKS, "title")
    return {axes.get_title("left"): axes for axes in figure.axes if axes.get_title("left")}


def target_lines(axes):
    return [line for line in axes.lines if line.get_linestyle() == "-"]


def test_a_panel_a_family_and_a_line_a_target(panels):
    assert list(panels) == list(CURVES)
    for name, axes in panels.items():
        drawn = [line.get_ydata() for line in target_lines(axes)]
        np.testing.assert_array_equal(np.nan_to_num(drawn), CURVES[name])


def test_lines_are_colored_by_entropy(panels):
    colors = [line.get_color() for line in target_lines(panels["dense"])]
    np.testing.assert_allclose(colors, colormaps["viridis_r"](np.linspace(0.1, 1.0, 6)), atol=0.01)


def test_the_end_of_a_sparse_target_is_marked(panels):
    def ends(name):
        return [line.get_markevery() for line in target_lines(panels[name]) if line.get_marker() == "o"]

    assert ends("dense") == []
    assert ends("sparse") == [[1]] * 5
    assert ends("few") == [[0]]


def test_tiny_probabilities_do_not_take_the_room():
    def ylim(p):
        return sorted_probabilities({"f": p}, {"f": np.ones(1)}, RANKS, "").axes[0].get_ylim()

    low, high = ylim(np.array([[0.9, 0.1, 1e-20, 1e-40]]))
    assert 1e-10 < low < 1e-8
    assert 1.0 < high < 10.0
    low, _ = ylim(np.full((1, 4), 0.25))
    assert 0.01 < low < 1 / 8  # the uniform distribution's


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_as_many_panels_as_families(count):
    names = [f"f{i}" for i in range(count)]
    figure = sorted_probabilities(
        {name: np.full((1, 4), 0.25) for name in names}, {name: np.ones(1) for name in names}, RANKS, ""
    )
    assert [axes.get_title("left") for axes in figure.axes if axes.get_title("left")] == names
    assert len(figure.axes) == count + 1  # and the scale of entropies
