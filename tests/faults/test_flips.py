"""Damaged files of runs give the same numbers or one line; ``python -m tests.faults.flips`` tries more."""

import pytest

from tests.faults.flips import campaign


@pytest.mark.timeout(600)  # four runs and hundreds of reads: half a minute where nothing else runs
def test_no_damage_gives_other_numbers(tiny_lm):
    tries = campaign(6, lm=tiny_lm, kinds=["hard"])
    assert [t for t in tries if t.violation] == []
    assert sum(t.result == "refused" for t in tries) > 50
