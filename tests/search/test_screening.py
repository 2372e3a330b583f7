"""Candidates ranked in half precision: only what the LM itself says counts."""

import copy
import gc
import logging
import weakref

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.search import BestSoFar, ChunkSearch, Screening, random_starts, screening
from tests.search.test_searchers import SMALL, true_kl

STEPS = 5
NAMES = ("shared", "shared_alone", "gcg", "hotflip_beam", "arca", "coordinate", "random_search", "gbda")
CASES = pytest.mark.parametrize("searcher", [SMALL[name] for name in NAMES], ids=NAMES)


@pytest.fixture(autouse=True)
def _few_positions_at_once(monkeypatch):
    """Where bfloat16 is emulated, filling up takes long."""
    monkeypatch.setattr("lit_prompt.search.screening._POSITIONS_AT_ONCE", 64)


def always(searcher):
    return Screening("always", fixed_shapes=not searcher.shares)


def rows_through(monkeypatch):
    """Rows that go through the LM, by its dtype."""
    rows, inner = {torch.float32: 0, torch.bfloat16: 0}, FrozenLM.features

    def count(self, inputs_embeds, *args, **kw):
        rows[self.dtype] += len(inputs_embeds)
        return inner(self, inputs_embeds, *args, **kw)

    monkeypatch.setattr(FrozenLM, "features", count)
    return rows


@CASES
def test_what_is_kept_is_the_score_of_the_lm_itself(make_problem, find, searcher):
    problem = make_problem(screening=always(searcher))
    best = find(searcher, problem, STEPS)
    torch.testing.assert_close(best.kl.double(), true_kl(problem, best.prompts), atol=1e-5, rtol=1e-5)
    assert (best.kl <= random_starts(problem)[1]).all()
    for slot, ids in enumerate(best.prompts.tolist()):
        assert problem.readable._round_trips[slot].survives([ids])[0]


@CASES
def test_screened_targets_do_not_depend_on_their_company(make_problem, find, searcher):
    if searcher.shares:
        pytest.skip("its targets share what they find")
    together = find(searcher, make_problem(targets=(0, 1, 2), screening=always(searcher)), STEPS)
    for target in (0, 1, 2):
        alone = find(searcher, make_problem(targets=(target,), screening=always(searcher)), STEPS)
        assert alone.prompts[0].tolist() == together.prompts[target].tolist()
        torch.testing.assert_close(alone.kl[0], together.kl[target], atol=1e-6, rtol=1e-6)
        assert alone.forward_passes[0] == together.forward_passes[target]


@pytest.mark.parametrize("name", ["shared", "gcg", "hotflip_beam"])
def test_a_screened_search_resumes_exactly(make_problem, name):
    searcher = SMALL[name]

    def begun():
        problem = make_problem(screening=always(searcher))
        nothing = torch.zeros(len(problem), problem.length, dtype=torch.long)
        return ChunkSearch(searcher, problem, BestSoFar(nothing, 0.0, None))

    whole, resumed = begun(), begun()
    whole.init(*random_starts(make_problem()), 0.0)
    for step in range(4):
        if step == 2:
            saved = copy.deepcopy(whole.state_dict())
        whole.step()
    resumed.load_state_dict(saved)
    for _ in range(2):
        resumed.step()
    assert resumed.best.prompts.equal(whole.best.prompts)
    assert resumed.best.kl.equal(whole.best.kl)


@pytest.mark.parametrize("name", ["shared", "gcg", "hotflip"])
def test_few_candidates_go_through_the_lm_itself(make_problem, find, name, monkeypatch):
    searcher = SMALL[name]
    problem = make_problem(screening=always(searcher))
    starts = random_starts(problem)
    rows = rows_through(monkeypatch)
    find(searcher, problem, 2, starts)
    # each step the prompts themselves, for their keys and values, and four candidates of each; some are padding
    assert 0 < rows[torch.float32] <= 2 * (3 * 4 + 16 + 4 * 16)
    assert rows[torch.bfloat16] > 0


def test_a_screened_search_is_about_as_good(make_problem, find):
    searcher = SMALL["gcg"]
    plain = find(searcher, make_problem(targets=range(6)), 12).kl.mean()
    screened = find(searcher, make_problem(targets=range(6), screening=always(searcher)), 12).kl.mean()
    start = random_starts(make_problem(targets=range(6)))[1].mean()
    assert start - screened > 0.9 * (start - plain)


@pytest.mark.parametrize(("half", "on"), [(0.5, True), (0.9, False), (3.0, False)])
def test_the_clock_decides_before_anything_is_scored(loaded, monkeypatch, caplog, half, on):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: True)
    lm, _ = loaded("llama")
    timed, now = [], [0.0]

    def logits(self, *args, **kw):
        now[0] += {torch.float32: 1.0, torch.bfloat16: half if timed.count(self.dtype) else 9.0}[self.dtype]
        timed.append(self.dtype)
        return torch.zeros(1)

    monkeypatch.setattr(screening, "half_copy", lambda lm, positions: lm.rounded(torch.bfloat16, positions))
    monkeypatch.setattr(FrozenLM, "next_token_logits", logits)
    monkeypatch.setattr("lit_prompt.lm.half.perf_counter", lambda: now[0])
    own = Screening("auto", fixed_shapes=True)
    with caplog.at_level(logging.WARNING):
        copied = own.half(lm, 4)
    assert (copied is not None) is on
    assert ("bfloat16" in caplog.text) is on
    assert timed.count(torch.float32) == 2
    assert own.half(lm, 4) is copied  # nothing is timed again
    assert timed.count(torch.float32) == 2


@pytest.mark.parametrize("on", [True, False])
def test_what_another_process_has_measured_holds(loaded, monkeypatch, on):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: True)
    monkeypatch.setattr(screening, "speed_in_half", None)  # nothing is measured
    own = Screening("auto", fixed_shapes=True)
    own.agreed = lambda measured: on
    assert (own.half(loaded("llama")[0], 4) is not None) is on


def test_what_is_measured_later_than_by_another_process_does_not_hold(loaded, monkeypatch):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: True)
    monkeypatch.setattr(screening, "speed_in_half", lambda lm, half, length: 2.0)
    own = Screening("auto", fixed_shapes=True)
    own.agreed = lambda measured: None if measured is None else False
    assert own.half(loaded("llama")[0], 4) is None


def test_the_copy_goes_when_the_search_does(make_problem):
    own = Screening("always", fixed_shapes=True)
    problem = make_problem(screening=own)
    copied = weakref.ref(problem.rough.lm)
    problem.release()
    own.release()
    gc.collect()
    assert copied() is None


def test_an_lm_without_a_copy_is_not_screened_and_this_is_said(make_problem, monkeypatch, caplog):
    monkeypatch.setattr(screening, "half_copy", lambda lm, fixed_shapes: None)
    assert make_problem(screening=Screening("always", fixed_shapes=True)).rough is None
    assert "not screened" in caplog.text


def test_nothing_is_ranked_in_half_precision_where_the_processor_has_none(make_problem, monkeypatch):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: False)
    assert make_problem(screening=Screening("auto", fixed_shapes=True)).rough is None


def test_a_wrong_setting_is_named():
    with pytest.raises(InputError, match=r"model\.screening is sometimes; it must be auto, always or never"):
        Screening("sometimes", fixed_shapes=True)
