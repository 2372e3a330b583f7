"""The populations of a search on texts, against all that was scored, for an LM that counts letters."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from lit_prompt.scoring import Context, Member, Slots
from lit_prompt.scoring.text_scorer import Divergences, TextScorer
from lit_prompt.search.text_problem import TextProblem
from lit_prompt.search.text_search import TextSearch

# over the letters a, e and o; the LM gives each of five letters what its number in the text and 1 come to
TARGETS = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0], [0.8, 0.2, 0, 0, 0]])
LETTERS = "aeotn"


class Counting(TextScorer):
    """Remembers what it was asked for."""

    def __init__(self, slots):
        super().__init__(slots)
        self.asked = {}

    def divergences(self, texts, members):
        counts = np.array([[1 + text.count(letter) for letter in LETTERS] for text in texts])
        q = counts / counts.sum(1, keepdims=True)
        p = TARGETS[[member.target for member in members]]
        kl = torch.tensor(rel_entr(p, q[:, None]).sum(2))
        missed = -torch.tensor((q[:, None] * (p > 0)).sum(2)).log()
        self.asked |= {text: (a, b) for text, a, b in zip(texts, kl, missed, strict=True)}
        return Divergences(kl, missed, [1] * len(texts))


@pytest.fixture
def problem():
    slots = Slots(
        ["even", "uneven"], [[Member(row, Context("", "", (), (), own=False))] for row in range(len(TARGETS))]
    )
    search = TextSearch(width=6, population=5)
    return search, TextProblem(Counting(slots), [["a", "e", "o"], ["a", "e"]], search.words(30), 30, True, seed=0)


def run(search, problem, steps):
    state = search.init(problem, *search.starts(problem))
    for number in range(steps):
        search.step(problem, state, number, torch.arange(len(problem)))
    return state


def test_populations_are_the_best_of_all_that_was_scored(problem):
    search, problem = problem
    state = run(search, problem, 12)
    scorer = problem.scorer
    for slot in range(len(problem)):
        kl = np.array([float(one[0][slot]) for one in scorer.asked.values()])
        missed = np.array([float(one[1][slot]) for one in scorer.asked.values()])
        np.testing.assert_allclose(state["scores"][slot], np.sort(kl)[:5], rtol=1e-6)
        np.testing.assert_allclose(state["uneven_scores"][slot], np.sort(0.9 * missed + 0.1 * kl)[:5], rtol=1e-6)
        for ids, values in (("ids", kl), ("uneven_ids", 0.9 * missed + 0.1 * kl)):
            texts = problem.texts(state[ids][slot])
            assert len(set(texts)) == 5
            own = [values[list(scorer.asked).index(text)] for text in texts]
            np.testing.assert_allclose(own, np.sort(values)[:5], rtol=1e-6)


def test_what_is_found_has_the_least_kl_of_all(problem):
    search, problem = problem
    state = search.init(problem, *search.starts(problem))
    found = search.step(problem, state, 0, torch.arange(2))
    least = np.min([one[0].numpy() for one in problem.scorer.asked.values()], 0)
    np.testing.assert_allclose(found.scores, least, rtol=1e-6)


def test_texts_are_made_from_both_populations(problem, monkeypatch):
    search, problem = problem
    state = run(search, problem, 1)
    for name, text in (("ids", "the"), ("uneven_ids", "sky")):
        state[name][:] = 0
        state[name][:, 0] = problem.ids([text])[0]
    for name in ("scores", "uneven_scores"):
        state[name][:] = math.inf
        state[name][:, 0] = 0.0
    seen = []
    moves = [lambda text, materials, rng: seen.append((text, materials.others)) or text + "!"] * 9
    monkeypatch.setattr("lit_prompt.search.text_search.MOVES", moves)
    search.step(problem, state, 1, torch.arange(2))
    assert {text for text, _ in seen} == {"the", "sky"}
    assert all(others == [{"the": "sky", "sky": "the"}[text]] for text, others in seen)


def test_a_search_that_an_older_version_began_goes_on(problem):
    search, problem = problem
    state = run(search, problem, 2)
    before = copy.deepcopy(state)
    older = {name: value for name, value in state.items() if not name.startswith("uneven")}
    search.step(problem, older, 2, torch.arange(2))
    assert older.keys() == state.keys()
    assert (older["scores"] <= before["scores"]).all()
    assert (older["uneven_scores"] <= before["scores"]).all()


def test_a_text_of_infinite_kl_is_in_no_population(problem):
    """However much mass it puts on the other tokens; there is room for it."""
    _, problem = problem

    class Excluding(Counting):
        def divergences(self, texts, members):
            found = super().divergences(texts, members)
            found.kl[["the" in text for text in texts]] = math.inf
            return found

    problem.scorer = Excluding(problem.slots)
    state = run(TextSearch(width=6, population=300), problem, 6)
    counts = ["the" in text for text in problem.scorer.asked]
    assert 0 < sum(counts) < len(counts) < 300
    for name in ("scores", "uneven_scores"):
        assert (state[name].isfinite().sum(1) == len(counts) - sum(counts)).all()


def test_a_text_of_infinite_kl_brings_its_move_nothing(problem):
    """Where a population has room, too."""
    _, problem = problem

    class Barring(Counting):
        def divergences(self, texts, members):
            found = super().divergences(texts, members)
            return Divergences(found.kl + self.bar, found.missed + self.bar, found.passes)

    problem.scorer = Barring(problem.slots)
    problem.scorer.bar = 0.0
    search = TextSearch(width=6, population=300)
    state = search.init(problem, *search.starts(problem))
    problem.scorer.bar = math.inf
    before = state["gained"].clone()
    search.step(problem, state, 0, torch.arange(2))
    assert (state["gained"] <= before).all()
