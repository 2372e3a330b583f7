"""Pictures hold what they are said to hold."""

import io
import math

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.text import Text

from lit_prompt.results.figures import kl_against_entropy, sorted_probabilities, target_against_reached
from lit_prompt.results.style import COLORS
from lit_prompt.results.text import visible

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


# ---- KL against entropy ----

ROWS = [
    {"entropy": h, "kl": h / 4 + k, "kl_floor": h / 8, "kl_uniform": 8.0 - h} for h in (1.0, 2.0, 4.0) for k in range(3)
]


def drawn(figure):
    """Axes by title, and in them the lines' data by their name in the legend."""

    def look(line):
        return line.get_color(), line.get_linestyle()

    (legend,) = figure.legends
    names = {look(line): text.get_text() for line, text in zip(legend.legend_handles, legend.texts, strict=True)}
    return {
        axes.get_title("left"): {names[look(line)]: line.get_xydata() for line in axes.lines} for axes in figure.axes
    }


def test_kl_floor_and_uniform_are_drawn():
    double = [row | {"kl": 2 * row["kl"]} for row in ROWS]
    found = drawn(kl_against_entropy({"one": {"a": ROWS}, "two": {"a": ROWS, "b": double}}))
    assert list(found) == ["one", "two"]
    assert [len(lines) for lines in found.values()] == [3, 4]
    lines = found["two"]
    np.testing.assert_allclose(lines["a: median, 10 to 90 %"], [[h, h / 4 + 1] for h in (1, 2, 4)])
    np.testing.assert_allclose(lines["b: median, 10 to 90 %"], [[h, h / 2 + 2] for h in (1, 2, 4)])
    np.testing.assert_allclose(lines["certified floor (median)"], [[h, h / 8] for h in (1, 2, 4)])
    assert {tuple(point) for point in lines["KL to the uniform distribution"]} == {(1, 7), (2, 6), (4, 4)}


def test_the_floor_of_mixtures_is_of_one_prompt():
    mixed = [row | {"components": 2} for row in ROWS]
    lines = drawn(kl_against_entropy({"": {"a": ROWS, "b": mixed}}))[""]
    np.testing.assert_allclose(lines["certified floor of one prompt (median)"], [[h, h / 8] for h in (1, 2, 4)])


def test_what_was_not_searched_or_is_not_finite_is_left_out():
    bad = [{**ROWS[0], "kl": kl} for kl in (None, math.inf, math.nan)]
    lines, expected = (drawn(kl_against_entropy({"": {"a": rows}}))[""] for rows in ([*ROWS, *bad], ROWS))
    np.testing.assert_array_equal(lines["a: median, 10 to 90 %"], expected["a: median, 10 to 90 %"])
    assert kl_against_entropy({"": {"a": bad}}).axes[0].get_ylim()[1] > 0


OWN = [
    {"target_id": f"die/{name}", "entropy": h, "kl": kl, "kl_floor": kl / 2, "kl_uniform": 8.0 - h}
    for name, h, kl in (("fair", 1.79, 0.5), ("loaded", 1.37, 0.25), ("even", 1.1, 0.75))
]


def test_no_line_goes_through_different_things():
    figure = kl_against_entropy({"": {"die": OWN}})
    (axes,) = figure.axes
    assert all(line.get_linestyle() == "None" for line in axes.lines)
    lines = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"o": [[r["entropy"], r["kl"]] for r in OWN], "_": [[r["entropy"], r["kl_floor"]] for r in OWN]}
    assert {(text.get_text(), *text.xy) for text in axes.texts} == {
        (row["target_id"], row["entropy"], row["kl"]) for row in OWN
    }
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "die",
        "certified floor",
    ]


def test_floors_of_different_targets_do_not_share_a_line():
    other = [row | {"target_id": "other", "kl_floor": row["kl_floor"] / 2} for row in ROWS]
    lines = drawn(kl_against_entropy({"": {"a": ROWS, "b": other}}))[""]
    for name, share in (("a", 8), ("b", 16)):
        np.testing.assert_allclose(lines[f"{name}: certified floor (median)"], [[h, h / share] for h in (1, 2, 4)])


def test_bars_are_a_panel_a_target_with_answers_in_their_own_words():
    tokens = [
        {"token": " very", "answer": " very well", "target_probability": 0.5, "reached_probability": 0.25},
        {"token": " no", "answer": None, "target_probability": 0.0, "reached_probability": 0.75},
    ]
    figure = target_against_reached({"a/x": tokens, "a/y": tokens[:1]})
    assert [axes.get_title("left") for axes in figure.axes] == ["a/x", "a/y"]
    bars = {c.get_label(): [bar.get_width() for bar in c] for c in figure.axes[0].containers}
    assert list(bars.values()) == [[0.5, 0.0], [0.25, 0.75]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["' very well'", "' no'"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["target", "reached"]


def test_every_family_has_a_color_of_its_own():
    assert len(set(COLORS)) == len(COLORS) >= 16


NAMED = {
    "kl": lambda name: kl_against_entropy({name: {name: ROWS}}),
    "few": lambda name: kl_against_entropy({name: {name: [OWN[0] | {"target_id": name}]}}),
    "sorted": lambda name: sorted_probabilities({name: CURVES["dense"]}, {name: ENTROPY["dense"]}, RANKS, name),
    "bars": lambda name: target_against_reached(
        {name: [{"token": name, "target_probability": 0.5, "reached_probability": 0.25}]}
    ),
}


@pytest.mark.parametrize("name", ["$x$", "$", r"a\$b$c", "$\\frac$ 5$", r"$\frac{bad$", "\x1b[31m\0$\n\u202e$"])
@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_no_name_is_a_formula_or_hidden(make, name):
    figure = make(name)
    figure.savefig(io.BytesIO())
    with_name = [text for text in figure.findobj(Text) if {visible(name), repr(name)} & parts(text.get_text())]
    assert len(with_name) >= 2
    assert not any(text.get_parse_math() for text in with_name)
    assert all(text.get_text().isprintable() for text in figure.findobj(Text))


def parts(text):
    """A text as it is, and without what is added to a name in a legend."""
    return {text, text.removesuffix(": median, 10 to 90 %")}
