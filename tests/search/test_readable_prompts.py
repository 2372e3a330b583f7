"""The best prompt whose text gives its tokens again, against trying them all."""

import pytest
import torch
from tokenizers.models import Unigram

from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.lm.round_trip import RoundTrip
from lit_prompt.search.readable_prompts import ReadablePrompts
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA
from tests.lm.conftest import byte_fallback
from tests.places import round_trip

LENGTH = 3
KINDS = {
    "byte_level": lambda: Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions()),
    "unigram": lambda: Vocabulary.load(str(EMBEDDED_GPT2), LMOptions()),
    "byte_fallback": lambda: byte_fallback("llama2"),
}


@pytest.fixture(scope="module", params=KINDS)
def vocabulary(request):
    return KINDS[request.param]()


def readable_of(vocabulary, before="The king", after="", allowed=None, length=LENGTH):
    trip = round_trip(vocabulary, before, after)
    allowed = torch.tensor(vocabulary.ordinary_ids if allowed is None else allowed)
    return ReadablePrompts([trip], allowed, length), trip


def slots(ids):
    """All are for the one slot that there is."""
    return torch.zeros(len(ids), dtype=torch.long)


def drawn(vocabulary, *shape, seed=0):
    ids = torch.tensor(vocabulary.ordinary_ids)
    return ids[torch.randint(len(ids), shape, generator=torch.Generator().manual_seed(seed))]


def brute_force(trip, ids, scores, below):
    """The best survivor of each row, by asking about every prompt."""
    best = []
    for row, score, limit in zip(ids.tolist(), scores.tolist(), below.tolist(), strict=True):
        found = [
            (s, i)
            for i, (own, s) in enumerate(zip(row, score, strict=True))
            if s < limit and abs(s) < float("inf") and trip.survives([own])[0]
        ]
        best.append(min(found, default=(float("inf"), None)))
    return best


@pytest.mark.parametrize("prompts", [1, 5, 8, 9, 40])
def test_best_is_the_best_survivor(vocabulary, prompts):
    readable, trip = readable_of(vocabulary)
    ids = drawn(vocabulary, 6, prompts, LENGTH)
    scores = torch.rand(6, prompts, generator=torch.Generator().manual_seed(1))
    scores[0, 0] = torch.nan
    scores[1] = torch.inf
    scores[2, -1] = -torch.inf
    for below in (torch.full((6,), torch.inf), torch.tensor([0.5, 0.5, 0.5, 0.0, 0.1, 2.0])):
        expected = brute_force(trip, ids, scores, below)
        chosen, found = readable.best(ids, scores, slots(ids), below)
        for target, (score, prompt) in enumerate(expected):
            assert float(found[target]) == pytest.approx(score)
            assert prompt is None or int(chosen[target]) == prompt
        if below.isinf().all():
            unlimited = readable.best(ids, scores, slots(ids))
            assert torch.equal(unlimited[0], chosen)
            assert torch.equal(unlimited[1], found)
    assert prompts < 40 or sum(prompt is not None for _, prompt in expected) >= 3


def test_only_the_best_are_asked_about(vocabulary, monkeypatch):
    readable, trip = readable_of(vocabulary)
    good = torch.tensor(vocabulary.encode("The king said that the son")[len(vocabulary.encode("The king")) :][:LENGTH])
    assert trip.survives([good.tolist()]) == [True]
    ids = drawn(vocabulary, 2, 500, LENGTH)
    ids[:, 77] = good
    scores = torch.rand(2, 500)
    scores[:, 77] = -1.0
    asked = []
    survives = RoundTrip.survives
    monkeypatch.setattr(RoundTrip, "survives", lambda self, ids: asked.extend(ids) or survives(self, ids))
    chosen, _ = readable.best(ids, scores, slots(ids))
    assert chosen.tolist() == [77, 77]
    assert len(asked) <= 16


def test_where_text_does_not_matter_the_best_is_the_best(vocabulary):
    readable = ReadablePrompts(None, torch.tensor(vocabulary.ordinary_ids), LENGTH)
    ids, scores = drawn(vocabulary, 3, 7, LENGTH), torch.rand(3, 7)
    chosen, found = readable.best(ids, scores, slots(ids))
    assert torch.equal(found, scores.amin(1))
    assert torch.equal(chosen, scores.argmin(1))
    assert torch.equal(readable.repaired(ids[0], slots(ids[0])), ids[0])


def test_no_prompt_at_all_is_none_found(vocabulary):
    for readable in (readable_of(vocabulary)[0], ReadablePrompts(None, torch.tensor([1, 2]), LENGTH)):
        chosen, found = readable.best(torch.zeros(2, 0, LENGTH, dtype=torch.long), torch.zeros(2, 0), slots([0, 0]))
        assert chosen.shape == (2,)
        assert found.isinf().all()


def test_repaired_prompts_are_the_last_tokens_of_the_text(vocabulary):
    readable, trip = readable_of(vocabulary)
    ids = drawn(vocabulary, 50, 2 * LENGTH)
    repaired = readable.repaired(ids, slots(ids))
    assert repaired.shape == (50, LENGTH)
    allowed = set(vocabulary.ordinary_ids)
    changed = 0
    for row, found in zip(ids.tolist(), repaired.tolist(), strict=True):
        (again,) = trip.tokens([trip.text(row)], LENGTH)
        assert found == (again if again is not None and set(again) <= allowed else row[-LENGTH:])
        changed += found != row[-LENGTH:]
    better = sum(trip.survives(repaired.tolist())) - sum(trip.survives(ids[:, -LENGTH:].tolist()))
    # the embedded Unigram splits nearly every text where its tokens were joined
    assert (changed > 5 and better > 0) or isinstance(vocabulary.tokenizer.backend_tokenizer.model, Unigram)


def test_what_is_repaired_stays_allowed(vocabulary):
    narrow = vocabulary.ordinary_ids[::2]
    readable, _ = readable_of(vocabulary, allowed=narrow)
    ids = torch.tensor(narrow)[torch.randint(len(narrow), (50, 2 * LENGTH), generator=torch.Generator().manual_seed(2))]
    assert set(readable.repaired(ids, slots(ids)).flatten().tolist()) <= set(narrow)


def test_each_slot_has_its_own_texts_around(vocabulary):
    trips = [round_trip(vocabulary, before, after) for before, after in (("", ""), ("The king", " had"))]
    readable = ReadablePrompts(trips, torch.tensor(vocabulary.ordinary_ids), LENGTH)
    ids, own = drawn(vocabulary, 6, 40, LENGTH, seed=3), torch.tensor([0, 1, 1, 0, 1, 0])
    scores = torch.rand(6, 40, generator=torch.Generator().manual_seed(5))
    chosen, found = readable.best(ids, scores, own)
    for row, slot in enumerate(own.tolist()):
        one, score = ReadablePrompts([trips[slot]], readable._allowed, LENGTH).best(
            ids[row : row + 1], scores[row : row + 1], torch.zeros(1, dtype=torch.long)
        )
        assert (int(chosen[row]), float(found[row])) == (int(one[0]), float(score[0]))
