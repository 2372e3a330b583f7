"""Moves are chosen by what they have brought."""

import pytest
import torch

from lit_prompt.search.bandit import Bandit


def test_one_that_knows_nothing_chooses_evenly() -> None:
    torch.testing.assert_close(Bandit.new(2, 4).shares(), torch.full((2, 4), 0.25, dtype=torch.float64))


def test_a_move_that_brings_more_is_chosen_more_often_and_none_is_given_up() -> None:
    bandit = Bandit.new(2, 3)
    slots, moves = torch.zeros(300, dtype=torch.long), torch.arange(3).repeat(100)
    for _ in range(50):
        bandit.learn(slots, moves, (moves == 1).double() * 0.3)
    first, second = bandit.shares()
    assert float(first[1]) > 0.8
    assert float(first.min()) > 0.03
    torch.testing.assert_close(second, torch.full_like(second, 1 / 3))  # a slot knows its own candidates alone
    torch.testing.assert_close(first.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_choices_follow_the_shares() -> None:
    bandit = Bandit.new(1, 3)
    bandit.learn(
        torch.zeros(90, dtype=torch.long), torch.arange(3).repeat(30), torch.tensor([0.0, 1.0, 0.5]).repeat(30)
    )
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = torch.bincount(bandit.choose(torch.zeros(20_000, dtype=torch.long), u), minlength=3) / 20_000
    assert (drawn - bandit.shares()[0]).abs().max() < 0.02
    assert int(bandit.choose(torch.zeros(1, dtype=torch.long), torch.ones(1)).max()) == 2  # rounding leaves no gap


@pytest.mark.parametrize("cut", [1, 20])
def test_it_goes_on_exactly_from_its_tensors(cut: int) -> None:
    whole = Bandit.new(2, 3)
    parts = Bandit.new(2, 3)
    generator = torch.Generator().manual_seed(1)
    for step in range(40):
        if step == cut:
            parts = Bandit(parts.gained.clone(), parts.tried.clone(), parts.spent.clone())
        slots = torch.randint(2, (30,), generator=generator)
        moves = torch.randint(3, (30,), generator=generator)
        gains, costs = torch.rand(2, 30, generator=generator)
        whole.learn(slots, moves, gains, costs)
        parts.learn(slots, moves, gains, costs)
    assert torch.equal(whole.shares(), parts.shares())


def test_what_costs_more_must_bring_more() -> None:
    bandit = Bandit.new(1, 2)
    slots, moves = torch.zeros(200, dtype=torch.long), torch.arange(2).repeat(100)
    for _ in range(30):
        bandit.learn(slots, moves, torch.tensor([0.1, 0.2]).repeat(100), torch.tensor([1.0, 4.0]).repeat(100))
    cheap, dear = bandit.shares()[0].tolist()
    # what is spent on them: half of the gain for it gets half of it, but for what is explored
    assert cheap == pytest.approx(2 * 4 * dear, rel=0.15)


def test_as_much_is_spent_on_what_brings_as_much_for_it() -> None:
    bandit = Bandit.new(1, 2)
    slots, moves = torch.zeros(200, dtype=torch.long), torch.arange(2).repeat(100)
    for _ in range(30):
        bandit.learn(slots, moves, torch.tensor([0.1, 0.4]).repeat(100), torch.tensor([1.0, 4.0]).repeat(100))
    cheap, dear = bandit.shares()[0].tolist()
    assert cheap == pytest.approx(4 * dear, rel=0.05)


def test_what_is_believed_at_first_gives_way_to_what_is_seen() -> None:
    weights = torch.tensor([1.0, 0.1], dtype=torch.float64)
    nothing = Bandit.new(1, 2)
    bandit = Bandit(nothing.gained, nothing.tried, weights=weights)
    torch.testing.assert_close(bandit.shares(), (weights / weights.sum()).unsqueeze(0))
    slots, moves = torch.zeros(100, dtype=torch.long), (torch.arange(100) >= 90).long()
    for _ in range(50):
        bandit.learn(slots, moves, (moves == 1).double())
    assert float(bandit.shares()[0, 1]) > 0.7


def test_a_slot_that_knows_little_believes_its_group() -> None:
    gained, tried = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    bandit = Bandit(gained, tried, group=torch.tensor([0, 0, 2]))
    bandit.learn(torch.zeros(200, dtype=torch.long), torch.arange(2).repeat(100), torch.tensor([0.0, 1.0]).repeat(100))
    _, mate, stranger = bandit.shares()
    assert float(mate[1]) > 0.7
    assert stranger.tolist() == [0.5, 0.5]
