"""Curves of the best score so far."""

import pytest
import torch

from lit_prompt.models.score_curve import ScoreCurve


def recorded(steps, made=None):
    """A curve whose score at a step is its number, and of a second task twice that."""
    curve = ScoreCurve(2, steps)
    for step in range(steps if made is None else made):
        curve.record(step, torch.tensor([1.0, 2.0], dtype=torch.float64) * step)
    return curve


@pytest.mark.parametrize(("steps", "stride", "points"), [(1, 1, 1), (30, 1, 30), (399, 1, 399), (1001, 5, 201)])
def test_some_two_hundred_points(steps, stride, points):
    curve = recorded(steps)
    assert (curve.stride, curve.points.shape) == (stride, (2, points))
    assert curve.points.dtype == torch.float32
    assert curve.points[0].tolist() == [stride * k for k in range(points)]
    assert curve.points[1].tolist() == [2 * stride * k for k in range(points)]


def test_what_the_search_has_not_come_to_is_not_known():
    assert ScoreCurve(2, 30).points.isnan().all()


def test_the_last_score_holds_for_the_steps_that_are_left():
    assert recorded(30, made=10).points[0].tolist() == [*range(10), *[9] * 20]


@pytest.mark.parametrize(("then", "now"), [(30, 30), (30, 60), (100, 1000), (400, 1000), (1001, 3000)])
def test_a_search_of_more_steps_goes_on(then, now):
    longer, anew = ScoreCurve(2, now), recorded(now)
    longer.load_state_dict(recorded(then).state_dict())
    for step in range(then, now):
        longer.record(step, torch.tensor([1.0, 2.0]) * step)
    former = max(1, then // 200)  # points of fewer steps lie elsewhere: each stands for the one before it
    expected = [float(step if step >= then else step // former * former) for step in range(0, now, longer.stride)]
    assert longer.points[0].tolist() == expected
    if longer.stride % former == 0:
        assert torch.equal(longer.points, anew.points)


def test_a_state_of_the_same_search_is_the_same():
    curve = ScoreCurve(2, 1000)
    curve.load_state_dict(recorded(1000, made=500).state_dict())
    assert torch.equal(curve.points, recorded(1000, made=500).points)
