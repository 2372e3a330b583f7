"""Candidates ranked in half precision: only what the LM itself says counts."""

import copy
import gc
import logging
import weakref

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.interruption import Interrupted
from lit_prompt.lm import FrozenLM
from lit_prompt.search import BestSoFar, ChunkSearch, Screening, random_starts, screening
from tests.search.test_searchers import SMALL, true_kl

STEPS = 5
NAMES = ("shared", "shared_alone", "gcg", "hotflip_beam", "arca", "coordinate", "random_search")
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
def test_the_first_step_decides_by_the_clock(make_problem, find, monkeypatch, caplog, half, on):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: True)
    seconds = iter([0.0, half, half + 1.0])
    monkeypatch.setattr(screening, "perf_counter", lambda: next(seconds))
    searcher = SMALL["gcg"]
    first = Screening("auto", fixed_shapes=True)
    problem = make_problem(screening=first)
    assert first.on is None
    starts = random_starts(problem)
    with caplog.at_level(logging.WARNING):
        decided = find(searcher, problem, 1, starts)
    assert first.on is on
    assert ("bfloat16" in caplog.text) is on
    # the step that decides is that of the LM itself
    unscreened = make_problem()
    plain = find(searcher, unscreened, 1, random_starts(unscreened))
    assert decided.prompts.equal(plain.prompts)
    assert decided.kl.equal(plain.kl)
    assert decided.forward_passes.equal(plain.forward_passes)
    assert (problem.rough is None) is not on


def test_a_step_that_is_cut_decides_nothing(make_problem, monkeypatch):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: True)
    own = Screening("auto", fixed_shapes=True)
    problem = make_problem(screening=own)
    nothing = torch.zeros(len(problem), problem.length, dtype=torch.long)
    search = ChunkSearch(SMALL["gcg"], problem, BestSoFar(nothing, 0.0, None))
    search.init(*random_starts(problem), 0.0)

    def cut(*args, **kw):
        raise Interrupted(2)

    monkeypatch.setattr(problem.readable, "best", cut)
    with pytest.raises(Interrupted):
        search.step()
    assert own.on is None


def test_the_copy_goes_when_the_search_does(make_problem):
    problem = make_problem(screening=Screening("always", fixed_shapes=True))
    copied = weakref.ref(problem.rough.lm)
    problem.release()
    problem.screening.release()
    gc.collect()
    assert copied() is None


def test_an_lm_without_a_copy_is_not_screened_and_this_is_said(make_problem, monkeypatch, caplog):
    monkeypatch.setattr(screening, "half_copy", lambda lm, fixed_shapes: None)
    wanted = Screening("always", fixed_shapes=True)
    assert make_problem(screening=wanted).rough is None
    assert wanted.on is False
    assert "not screened" in caplog.text


def test_nothing_is_ranked_in_half_precision_where_the_processor_has_none(make_problem, monkeypatch):
    monkeypatch.setattr(screening, "computes_in_half", lambda device: False)
    auto = Screening("auto", fixed_shapes=True)
    assert make_problem(screening=auto).rough is None
    assert auto.on is False


def test_a_wrong_setting_is_named():
    with pytest.raises(InputError, match=r"model\.screening is sometimes; it must be auto, always or never"):
        Screening("sometimes", fixed_shapes=True)
