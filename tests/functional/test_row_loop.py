"""Rows that end on their own."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from lit_prompt.functional.row_loop import bisect, until_done


def collatz(start, max_steps=200, seen=None, **options):
    """The numbers and the largest ones on the way to 1: every row takes another number of steps."""

    def look(row, x, most):
        return x == 1, (x, most), (x, most)

    def move(step, row, x, most):
        assert (x != 1).all()
        if seen is not None:
            seen.append((step, row.tolist()))
        x = torch.where(x % 2 == 0, x // 2, 3 * x + 1)
        return x, most.maximum(x)

    return until_done(look, move, (start, start), max_steps, **options)


def one_by_one(x):
    """Number of steps and largest number, in plain Python."""
    steps, most = 0, x
    while x != 1:
        x = x // 2 if x % 2 == 0 else 3 * x + 1
        steps, most = steps + 1, max(most, x)
    return steps, most


def test_every_row_ends_where_and_when_it_does_alone():
    start = torch.tensor([7, 1, 27, 8, 1, 97, 2])
    (x, most), steps = collatz(start)
    assert x.tolist() == [1] * 7
    assert list(zip(steps.tolist(), most.tolist(), strict=True)) == [one_by_one(i) for i in start.tolist()]


def test_rows_that_are_done_leave():
    seen = []
    collatz(torch.tensor([4, 1, 16, 2]), seen=seen)
    assert seen == [(1, [0, 2, 3]), (2, [0, 2]), (3, [2]), (4, [2])]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_row_moves_more_often_than_allowed(most):
    (x, _), steps = collatz(torch.tensor([16, 1, 4, 64]), most)
    assert steps.tolist() == [min(most, n) for n in (4, 0, 2, 6)]
    assert x.tolist() == [16 >> min(most, 4), 1, 4 >> min(most, 2), 64 >> most]


def test_all_rows_end_as_they_are_where_it_does_not_go_on():
    left = []

    def go_on(rows):
        left.append(rows)
        return len(left) < 3

    start = torch.tensor([7, 1, 27, 8])
    (x, most), steps = collatz(start, go_on=go_on)
    assert left == [3, 3, 3]
    assert x.tolist() == [11, 1, 41, 2]
    assert most.tolist() == [22, 1, 82, 8]
    assert steps.tolist() == [2, 0, 2, 2]


def test_no_rows_are_no_trouble():
    (x, most), steps = collatz(torch.empty(0, dtype=torch.long))
    assert (len(x), len(most), len(steps)) == (0, 0, 0)


@pytest.mark.parametrize("width", [3, 17, 200])
def test_company_changes_no_bit(width):
    """A damped fixed-point iteration in float32, whose rounding would show an influence."""
    generator = torch.Generator().manual_seed(width)
    start, goal = torch.randn(2, 9, width, generator=generator)
    pace = torch.linspace(0.05, 0.9, 9)

    def solve(which):
        def look(row, x):
            far = (x - goal[which[row]]).abs().amax(1)
            return far < 1e-3, (x,), (x,)

        def move(_, row, x):
            return (x + pace[which[row]].unsqueeze(1) * (goal[which[row]] - x).tanh(),)

        (x,), steps = until_done(look, move, (start[which],), 1000)
        return x, steps

    together, steps = solve(torch.arange(9))
    assert len(set(steps.tolist())) > 4
    for which in ([0], [8], [3, 0, 5], [2, 2, 7], list(range(8, -1, -1))):
        x, alone = solve(torch.tensor(which))
        assert torch.equal(x, together[which])
        assert torch.equal(alone, steps[which])


def test_bisection_ends_between_neighbouring_numbers():
    wanted = torch.linspace(0.01, 30.0, 50, dtype=torch.float64)
    low, high = bisect(
        lambda row, x: x.exp() > wanted[row], torch.full_like(wanted, -40.0), torch.full_like(wanted, 40.0)
    )
    assert np.array_equal(np.nextafter(low.numpy(), math.inf), high.numpy())
    assert (low.exp() <= wanted).all()
    assert (high.exp() > wanted).all()
    roots = [brentq(lambda x, w=w: math.exp(x) - w, -40.0, 40.0, xtol=1e-15, rtol=1e-15) for w in wanted.tolist()]
    np.testing.assert_allclose(low.numpy(), roots, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("above", "end"), [(True, -1.0), (False, 1.0)])
def test_bisection_stays_within_its_ends(above, end):
    low, high = bisect(lambda _, x: torch.full_like(x, above, dtype=torch.bool), -torch.ones(3), torch.ones(3))
    assert (low == end).all() if above else (high == end).all()
    torch.testing.assert_close(low, high)
