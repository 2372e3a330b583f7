"""Damaged files of runs give the same numbers or one line; ``python -m tests.faults.flips`` tries more."""

import pytest

from tests.faults.flips import campaign


@pytest.mark.timeout(600)  # four runs and hundreds of reads: half a minute where nothing else runs
def test_no_damage_gives_other_numbers(workdir, tiny_lm):
    found = campaign(6, 0, workdir, tiny_lm, ["hard"])
    assert not {file: counts for file, counts in found.items() if counts["violations"]}
    assert sum(counts["refused"] for counts in found.values()) > 50
