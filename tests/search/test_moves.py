"""Kinds of moves make what they say, and what helps is merged."""

import itertools
import random

import pytest
import torch

from lit_prompt.search import text_moves
from lit_prompt.search.elites import kept_elites, no_elites
from lit_prompt.search.merges import merged
from lit_prompt.search.moves import MOVES, Draws, Moves, Proposals

COUNT = 60


@pytest.fixture(params=[("", ""), ("The king", " said")], ids=["alone", "between_texts"])
def tried(make_problem, request):
    """A problem, its prompts and elites, and what each move makes of them."""
    before, after = request.param
    problem = make_problem(before=before, after=after)
    generator = torch.Generator().manual_seed(3)
    slots = torch.arange(3)
    prompts = problem.random_ids(12, generator).view(3, 4)
    elites = problem.random_ids(24, generator).view(3, 2, 4)
    proposals = Proposals.of(problem, prompts, slots, 40)
    moves = Moves(problem, slots, prompts, proposals, elites, torch.tensor([2, 1, 2]))
    base = slots.repeat_interleave(COUNT)
    place = torch.arange(4).repeat(len(base) // 4)
    u = torch.rand(2, len(base), generator=generator, dtype=torch.float64)

    def make(name):
        draws = Draws(base, torch.full_like(base, MOVES.index(name)), place, u[0], u[1])
        return moves.candidates(draws)

    return problem, prompts, elites, proposals.swaps, base, place, make


@pytest.mark.parametrize("name", MOVES[:5])
def test_a_move_changes_its_position_alone(tried, name):
    problem, prompts, _, _, base, place, make = tried
    found = make(name)
    others = torch.arange(4) != place.unsqueeze(1)
    assert (found == prompts[base])[others].all()
    assert (problem.table.index(found) >= 0).all()
    assert (found != prompts[base]).any(1).float().mean() > 0.8


@pytest.mark.parametrize(("name", "k"), [("first_order", 40), ("first_order_top", 16)])
def test_the_gradient_proposes(tried, name, k):
    _, _, _, choices, base, place, make = tried
    token = make(name)[torch.arange(len(base)), place]
    ranks = (choices[base, place] == token.unsqueeze(1)).long().argmax(1)
    assert (choices[base, place, ranks] == token).all()
    assert int(ranks.max()) < k
    assert len(ranks.unique()) > k // 2


def test_alike_tokens_have_the_nearest_embeddings(tried):
    problem, prompts, _, _, base, place, make = tried
    token = make("alike")[torch.arange(len(base)), place]
    table = problem.lm.embed(problem.allowed).double()
    table = table / table.norm(dim=1, keepdim=True)
    for row in range(len(base)):
        old = prompts[base[row], place[row]]
        cosine = table @ table[problem.table.index(old)]
        cosine[problem.table.index(old)] = -2.0
        assert token[row] in problem.allowed[cosine.topk(32).indices]


def test_likely_tokens_are_what_the_lm_proposes_after_what_stands_before(tried):
    problem, prompts, _, choices, base, place, make = tried
    token = make("likely")[torch.arange(len(base)), place]
    context = problem.slots.contexts_of(0)[0]
    first = choices[:, 0, :64]
    for row in range(len(base)):
        start = [*context.before_ids, *prompts[base[row], : place[row]].tolist()]
        if not start:  # what nothing stands before: the gradient's
            assert token[row] in first[base[row]]
            continue
        logits = problem.lm.model(torch.tensor([start])).logits[0, -1]
        assert token[row] in problem.allowed[logits[problem.allowed].topk(65).indices]  # one more for rounding


def test_likely_tokens_come_as_often_as_the_lm_says(make_problem):
    problem = make_problem(before="The king", targets=(0,))
    prompts = problem.random_ids(4, torch.Generator().manual_seed(0)).view(1, 4)
    ids, shares = problem.scorer.likely_tokens(prompts, torch.zeros(1, dtype=torch.long), problem.allowed, 64)
    torch.testing.assert_close(shares.sum(2), torch.ones(1, 4))
    before = problem.slots.contexts_of(0)[0].before_ids
    logits = problem.lm.model(torch.tensor([[*before, *prompts[0, :2].tolist()]])).logits[0, -1]
    torch.testing.assert_close(shares[0, 2], logits[ids[0, 2]].softmax(0), atol=1e-5, rtol=1e-4)
    assert problem.take_passes().tolist() == [1]


def test_wanted_tokens_are_drawn_from_the_target(make_problem):
    problem = make_problem(scale=6.0)
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for slot in range(3):
        mass = problem.target_mass(slot)
        assert mass.tolist() == problem.log_probs[slot].double().exp()[problem.allowed].tolist()
        drawn = torch.bincount(problem.table.index(problem.wanted(slot, u, 1024)), minlength=len(mass)) / len(u)
        torch.testing.assert_close(drawn.double(), mass / mass.sum(), atol=0.015, rtol=0)


def test_crossovers_take_an_end_or_a_beginning_of_an_elite(tried):
    _, prompts, elites, _, base, place, make = tried
    for row, found in enumerate(make("crossover")):
        own = prompts[base[row]]
        of = elites[base[row]][: 1 if base[row] == 1 else 2]
        ends = [torch.cat([own[: place[row]], other[place[row] :]]) for other in of]
        cut = max(int(place[row]), 1)
        beginnings = [torch.cat([other[:cut], own[cut:]]) for other in of]
        assert any(found.equal(possible) for possible in [*ends, *beginnings])


def test_what_helps_is_merged_where_it_does_not_overlap():
    prompt = torch.tensor([[1, 2, 3, 4], [9, 9, 9, 9]])
    candidates = torch.tensor([[1, 2, 3, 7], [5, 2, 3, 4], [6, 2, 3, 4], [1, 8, 3, 4], [1, 2, 0, 4], [9, 9, 9, 0]])
    base = torch.tensor([0, 0, 0, 0, 0, 1])
    scores = torch.tensor([0.3, 0.2, 0.1, 0.4, 2.0, 0.1])  # of the last but one: it does not help
    found, of = merged(prompt, torch.tensor([1.0, 1.0]), candidates, base, scores, 5)
    assert found.tolist() == [[6, 2, 3, 7], [6, 8, 3, 7]]
    assert of.tolist() == [0, 0]
    assert merged(prompt, torch.tensor([1.0, 1.0]), candidates, base, scores, 1)[0].tolist() == [[6, 2, 3, 7]]
    nothing, none = merged(prompt, torch.tensor([0.0, 0.0]), candidates, base, scores, 5)
    assert nothing.shape == (0, 4)
    assert none.shape == (0,)


def test_elites_are_the_best_that_were_scored():
    generator = torch.Generator().manual_seed(0)
    every = torch.tensor(list(itertools.product(range(6), repeat=2)))[torch.randperm(36, generator=generator)]
    scores = torch.rand(3, 36, generator=generator)
    scores[1, 20:] = torch.inf
    elites, kept = no_elites(every[:1].expand(3, -1), scores[:, 0], 4)
    for part in torch.arange(1, 36).split(7):
        elites, kept = kept_elites(elites, kept, every[part].expand(3, -1, -1), scores[:, part])
    best = scores.sort(1)
    assert kept.equal(best.values[:, :4])
    assert elites.equal(every[best.indices[:, :4]])
    # what is known, or comes twice, takes no second place
    again = torch.cat([best.indices[:, :6], best.indices[:, :6]], 1)
    twice = kept_elites(elites, kept, every[again], scores.gather(1, again))
    assert twice[0].equal(elites)
    assert twice[1].equal(kept)


def test_two_words_are_in_each_others_place(make_problem):
    problem = make_problem(length=8, before="The king", targets=(0, 1))
    (trip, _) = problem.readable._round_trips
    (ids,) = trip.tokens([" and the old man saw a very little girl there"], 8)
    prompts, slots = torch.tensor([ids, ids]), torch.arange(2)
    proposals = Proposals.of(problem, prompts, slots, 1)
    moves = Moves(problem, slots, prompts, proposals, prompts.unsqueeze(1), torch.ones(2).long())
    base, place = slots.repeat_interleave(200), torch.arange(8).repeat(50)
    u = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = moves.candidates(Draws(base, torch.full_like(base, MOVES.index("exchange")), place, u, u))
    changed = (found != prompts[base]).any(1)
    assert changed.sum() > 50
    before = trip.text(ids)
    for row in changed.nonzero().flatten().tolist():
        text, kept = trip.text(found[row].tolist()), trip.text(ids[: place[row]])
        assert trip.tokens([text], 8) == [found[row].tolist()]
        if len(text) == len(before):  # all tokens are there: the same words in another order
            assert text.startswith(kept)
            assert sorted(text) == sorted(before)
        else:  # the last tokens of a text that came to more
            assert len(text) < len(before)
    again = moves.candidates(Draws(base, torch.full_like(base, MOVES.index("exchange")), place, u, u))
    assert torch.equal(found, again)


@pytest.mark.parametrize("name", ["corpus_word", "mark", "insertion", "deletion", "character"])
def test_texts_are_changed_as_in_a_search_on_texts(make_problem, name):
    problem = make_problem(length=8, before="The king", targets=(0, 1), words=(" elephant", " jungle"))
    (trip, _) = problem.readable._round_trips
    own, other = trip.tokens([" and the old man saw a very little girl there", " so they went to the river again"], 8)
    prompts, slots = torch.tensor([own, own]), torch.arange(2)
    elites = torch.tensor([[own, other], [own, other]])
    proposals = Proposals.of(problem, prompts, slots, 1)
    moves = Moves(problem, slots, prompts, proposals, elites, torch.tensor([2, 2]))
    base, place = slots.repeat_interleave(200), torch.arange(8).repeat(50)
    u = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = Draws(base, torch.full_like(base, MOVES.index(name)), place, u, u)
    found = moves.candidates(draws)
    assert (found != prompts[base]).any(1).sum() > 100
    mates = [trip.text(elite) for elite in (own, other)]
    for row, (at, number) in enumerate(zip(place.tolist(), u.tolist(), strict=True)):
        kept, mate = trip.text(own[:at]), mates[int(2 * number)]
        materials = text_moves.Materials(problem.words, (), [mate])
        rest = getattr(text_moves, name)(trip.text(own)[len(kept) :], materials, random.Random(int(number * 2**53)))
        (expected,) = trip.tokens([mate + kept + rest if name == "deletion" else kept + rest], 8)
        assert found[row].tolist() == (own if expected is None else expected)
    if name == "corpus_word":
        assert any("elephant" in trip.text(row) for row in found.tolist())
    assert torch.equal(found, moves.candidates(draws))


def test_what_need_not_survive_as_text_has_no_words(make_problem):
    problem = make_problem(readable=False)
    ids = problem.random_ids(12, torch.Generator().manual_seed(0)).view(3, 4)
    changed = problem.readable.changed(ids, torch.arange(3), torch.zeros(3).long(), lambda kept, rest, row: rest[::-1])
    assert torch.equal(changed, ids)


def test_what_has_no_score_is_no_elite():
    elites, kept = no_elites(torch.tensor([[1, 2]]), torch.tensor([3.0]), 4)
    pool = torch.tensor([[[3, 4], [5, 6], [7, 8]]])
    _, kept = kept_elites(elites, kept, pool, torch.tensor([[torch.inf, 2.0, torch.nan]]))
    assert kept.tolist() == [[2.0, 3.0, torch.inf, torch.inf]]
