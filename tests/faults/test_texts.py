"""A short form of the campaign of control characters."""

from tests.faults.texts import campaign


def test_no_name_steers_a_terminal_or_ends_a_command(tiny_lm):
    tries = campaign(1, lm=tiny_lm)
    assert [t for t in tries if t.violation] == []
