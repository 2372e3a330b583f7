"""A short form of the campaign against certified floors."""

from tests.faults.certificates import campaign


def test_no_kl_is_below_a_floor_that_holds():
    tries = campaign(0, seed=1722, lms=4)  # a soft cap, both norms, both dtypes, a biased head
    assert [t for t in tries if t.violation] == []
    assert {t.result for t in tries} == {"above", "floor is 0", "does not hold", "no floor"}
