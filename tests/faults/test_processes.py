"""Short forms of the campaigns that need real processes."""

import pytest

from tests.faults import full_disk, kills, ranks, signals
from tests.faults.commands import Try


def violations(tries: list[Try]) -> list[Try]:
    return [t for t in tries if t.violation]


@pytest.mark.timeout(300)
def test_signals_end_commands_with_their_code_one_line_and_no_litter(tiny_lm):
    tries = signals.campaign(6, lm=tiny_lm, kinds=("test", "report", "targets build"))
    assert not violations(tries)
    assert "interrupted" in {t.result for t in tries}


@pytest.mark.timeout(300)
def test_what_was_killed_can_be_given_again_and_nothing_is_left(tiny_lm):
    tries = kills.campaign(4, lm=tiny_lm, kinds=("test", "targets build"))
    assert not violations(tries)
    assert "killed" in {t.result for t in tries}


@pytest.mark.timeout(600)
def test_a_search_whose_processes_are_killed_ends_as_if_they_were_not(tiny_lm):
    tries = ranks.campaign(2, lm=tiny_lm, kinds=("single",))
    assert not violations(tries)
    assert sum(t.count for t in tries) == 2


@pytest.mark.timeout(300)
def test_files_that_may_not_grow_end_commands_in_one_line(tiny_lm):
    tries = full_disk.campaign(6, lm=tiny_lm, kinds=("test", "predict"))
    assert not violations(tries)
    assert "one line" in {t.result for t in tries}
