"""Prompts found from Python for an LM that is only served."""

import pytest

from lit_prompt import find
from lit_prompt.errors import InputError
from lit_prompt.served.served import Served
from tests.conftest import EMBEDDED_LLAMA
from tests.served.test_search import BEFORE, TARGETS

SETTINGS = {"before": BEFORE, "length": 24, "steps": 2, "progress": False}


def test_it_finds_there_what_it_finds_at_hand(served, workdir):
    here = find(str(EMBEDDED_LLAMA), TARGETS, "text", **SETTINGS)
    named = find(served.url, TARGETS, "text", **SETTINGS)
    told = find(Served(served.url, listed=2**20), TARGETS, "text", **SETTINGS)
    assert list(workdir.iterdir()) == []  # nothing is written
    for own, other in zip(here, told, strict=True):
        assert own.text == other.text
        assert bytes(i for i in own.prompt if i).decode() == own.text
        assert own.kl == pytest.approx(other.kl, abs=1e-5)
        for answer in (*own.answers.keys() & other.answers.keys(), " man"):
            assert own.answers[answer] == pytest.approx(other.answers[answer], abs=1e-5)
    assert [target.target_id for target in named] == ["given/even", "given/uneven"]
    assert all(target.kl is not None and target.kl_at_least is None for target in named)
    assert len(named.plot().axes) > 0
    assert "kl" in named.to_pandas()


def test_a_bound_is_no_kl(served):
    served.kind, served.top = "hosted", 2
    found = find(served.url, {" kiss": 0.5, " die": 0.5}, "text", **SETTINGS)
    (target,) = found
    assert target.kl is None
    assert target.kl_at_least > 0
    assert target.text in target.whole_text
    assert target.answers == {}
    assert "kl" not in found.to_pandas()
    assert f"<td>{target.kl_at_least:.6f}" in found._repr_html_()


@pytest.mark.parametrize("method", ["soft", "lift", "hard"])
def test_what_needs_an_lm_at_hand_says_so(served, method):
    with pytest.raises(InputError, match=f"{method} prompts need an LM at hand, and http.* is only served; .* 'text'"):
        find(served.url, TARGETS, method, **SETTINGS)
