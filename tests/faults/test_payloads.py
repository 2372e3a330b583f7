"""A short form of the campaign of programs in configs."""

from tests.faults.payloads import campaign


def test_no_program_in_a_config_runs(tiny_lm):
    tries = campaign(24, lm=tiny_lm)
    assert [t for t in tries if t.violation] == []
    assert {t.result for t in tries} == {"refused", "left aside"}
