"""A short form of the campaign on searches behind servers."""

import pytest

from tests.faults import served


@pytest.mark.timeout(300)
def test_kills_and_faults_change_nothing_and_nothing_kept_is_asked_again():
    tries = served.campaign(12)
    assert not [t for t in tries if t.violation]
    assert {t.kind for t in tries} == {"SIGKILL", "faults of the server"}
