"""Every searcher: what it finds is true, allowed, readable and its own."""

import copy
import itertools

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.search import (
    ARCA,
    GBDA,
    GCG,
    PEZ,
    SEARCHERS,
    BestSoFar,
    ChunkSearch,
    CoordinateDescent,
    HotFlip,
    RandomSearch,
    SharedSearch,
    StopReason,
    random_starts,
    shared_search,
)
from lit_prompt.search.kept_candidates import KeptCandidates
from lit_prompt.search.moves import MOVES, Proposals

STEPS = 8
#: a small one of every algorithm, and of every option that changes what it does
SMALL = {
    "shared": SharedSearch(width=8, top_k=16),
    "shared_alone": SharedSearch(width=8, top_k=16, share=False),
    "gcg": GCG(width=16, top_k=16),
    "gcg_options": GCG(width=16, top_k=16, n_replace_start=3, schedule=4, buffer=3, momentum=0.5),
    "hotflip": HotFlip(num_candidates=16),
    "hotflip_beam": HotFlip(num_candidates=8, beam_size=3, order="backward"),
    "arca": ARCA(averaged=4, num_candidates=16, order="random"),
    "pez": PEZ(lr=0.5),
    "pez_euclidean": PEZ(lr=0.5, metric="euclidean"),
    "gbda": GBDA(lr=3.0, relaxed=3, sample_every=2, samples=6),
    "coordinate": CoordinateDescent(),
    "random_search": RandomSearch(width=16, schedule=4),
    "random_search_apart": RandomSearch(width=16, schedule=4, contiguous=False),
}
CASES = pytest.mark.parametrize("searcher", SMALL.values(), ids=SMALL.keys())


def true_kl(problem, ids):
    """KL(target || LM) in float64 from the model's own logits, token by token of the whole sequence."""
    return torch.stack([_true_kl(problem, slot, own) for slot, own in enumerate(ids)])


@torch.no_grad()
def _true_kl(problem, slot, ids):
    context = problem.slots.targets(slot)[0].context
    whole = torch.tensor([[*context.before_ids, *ids.tolist(), *context.after_ids]])
    log_q = problem.lm.model(whole).logits[0, -1].double().log_softmax(-1)
    log_p = problem.log_probs[problem.slots.targets(slot)[0].target].double()
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def all_slots(problem):
    return torch.arange(len(problem))


def test_all_algorithms_are_here():
    assert {type(searcher) for searcher in SMALL.values()} == set(SEARCHERS)
    assert len({searcher.method for searcher in SEARCHERS}) == len(SEARCHERS)


@CASES
@pytest.mark.parametrize(("architecture", "before", "after"), [("llama", "", ""), ("gpt2", "The king", " had")])
def test_what_is_found_is_true_allowed_readable_and_no_worse_than_the_start(
    make_problem, find, searcher, architecture, before, after
):
    problem = make_problem(architecture=architecture, before=before, after=after)
    ids, scores = random_starts(problem)
    _, start = problem.readable.best(ids.unsqueeze(1), scores.unsqueeze(1), all_slots(problem))
    best = find(searcher, problem, STEPS, (ids, scores))
    assert best.kl.isfinite().all()
    torch.testing.assert_close(best.kl.double(), true_kl(problem, best.prompts), atol=1e-5, rtol=1e-5)
    assert (best.kl <= start).all()
    assert torch.isin(best.prompts, problem.allowed).all()
    _, readable = problem.readable.best(best.prompts.unsqueeze(1), best.kl.unsqueeze(1), all_slots(problem))
    assert readable.tolist() == best.kl.tolist()
    # every one improves some target; the relaxations need not
    if not isinstance(searcher, (PEZ, GBDA)):
        assert (best.kl < start).any()


@CASES
def test_a_good_start_that_is_no_text_stands_in_no_ones_way(make_problem, loaded, find, searcher):
    problem = make_problem()
    letters = [loaded()[1].encode(letter)[0] for letter in "said"]
    ids = torch.tensor([letters] * len(problem))
    _, readable = problem.readable.best(ids.unsqueeze(1), torch.zeros(len(problem), 1), all_slots(problem))
    assert readable.isinf().all()  # the tokenizer has a token for "ai"
    best = find(searcher, problem, STEPS, (ids, torch.full((len(problem),), -100.0)))
    assert best.kl.isfinite().all()
    torch.testing.assert_close(best.kl.double(), true_kl(problem, best.prompts), atol=1e-5, rtol=1e-5)


@CASES
def test_fluency_is_part_of_the_score(make_problem, find, searcher):
    problem = make_problem(fluency=0.5, before="The king")
    best = find(searcher, problem, 3)
    before = torch.tensor(problem.slots.targets(0)[0].context.before_ids)
    whole = torch.cat([before.expand(len(problem), -1), best.prompts], 1)
    with torch.no_grad():
        log_q = problem.lm.model(whole).logits.double().log_softmax(-1)
    first = len(before)
    chosen = log_q[:, first - 1 : -1].gather(2, best.prompts.unsqueeze(2)).squeeze(2)
    expected = true_kl(problem, best.prompts) - 0.5 * chosen.mean(1)
    torch.testing.assert_close(best.kl.double(), expected, atol=1e-5, rtol=1e-5)


@CASES
def test_the_same_seed_finds_the_same_and_another_seed_something_else(make_problem, find, searcher):
    first, second, other = (find(searcher, make_problem(seed=seed), STEPS) for seed in (0, 0, 1))
    assert first.prompts.equal(second.prompts)
    assert first.kl.equal(second.kl)
    assert first.forward_passes.equal(second.forward_passes)
    assert not first.prompts.equal(other.prompts)


@CASES
def test_a_target_alone_finds_what_it_finds_in_company(make_problem, find, searcher):
    if searcher.shares:
        pytest.skip("its targets share what they find")
    together = find(searcher, make_problem(targets=(0, 1, 2)), STEPS)
    for target in (0, 1, 2):
        alone = find(searcher, make_problem(targets=(target,)), STEPS)
        assert alone.prompts[0].tolist() == together.prompts[target].tolist()
        assert alone.forward_passes[0] == together.forward_passes[target]
        assert alone.reason[0] == together.reason[target]


@pytest.mark.parametrize("name", ["shared_alone", "hotflip_beam"])
def test_a_target_is_alone_even_where_all_start_alike(make_problem, find, name):
    # few tokens, so that their candidates are alike too
    start = random_starts(make_problem(targets=(7,), allow=LETTERS))[0]

    def found(targets):
        problem = make_problem(targets=targets, allow=LETTERS)
        own = torch.arange(len(targets))
        ids = start.repeat(len(targets), 1)
        best = find(SMALL[name], problem, STEPS, (ids, problem.scorer.scores(ids, own)))
        return list(zip(best.prompts.tolist(), best.forward_passes.tolist(), strict=True))

    assert found((0, 1, 2)) == [found((t,))[0] for t in (0, 1, 2)]


@CASES
def test_a_search_resumes_exactly_from_its_state(make_problem, searcher):
    def begun(problem):
        slots = torch.zeros(len(problem), problem.length, dtype=torch.long)
        return ChunkSearch(searcher, problem, BestSoFar(slots, 0.0, None))

    whole = begun(make_problem())
    whole.init(*random_starts(make_problem()), 0.0)
    for step in range(5):
        if step == 2:
            saved = copy.deepcopy(whole.state_dict())
        whole.step()
    resumed = begun(make_problem())
    resumed.load_state_dict(saved)
    for _ in range(3):
        resumed.step()
    assert resumed.best.prompts.equal(whole.best.prompts)
    assert resumed.best.kl.equal(whole.best.kl)
    assert resumed.best.forward_passes.equal(whole.best.forward_passes)
    for name, value in whole.state_dict()["state"].items():
        assert value.equal(resumed.state_dict()["state"][name]), name


TEXTS = [("The king", None), (None, None), ("One,", " had"), (None, None)]


@CASES
def test_contexts_and_restarts_are_searched_side_by_side_as_alone(make_problem, find, searcher):
    """A slot finds what it finds where its context's targets and its restart are searched alone."""
    together = find(searcher, make_problem(targets=(0, 1, 2, 3), texts=TEXTS, restarts=2), 4)
    problem = make_problem(targets=(0, 1, 2, 3), texts=TEXTS, restarts=2)
    torch.testing.assert_close(together.kl.double(), true_kl(problem, together.prompts), atol=1e-5, rtol=1e-5)
    for targets in ((0,), (2,), (1, 3)):
        alone = find(searcher, make_problem(targets=targets, texts=[TEXTS[i] for i in targets]), 4)
        for row, target in enumerate(targets):
            assert alone.prompts[row].tolist() == together.prompts[2 * target].tolist()
            assert alone.forward_passes[row] == together.forward_passes[2 * target]
    assert not together.prompts[0::2].equal(together.prompts[1::2])  # another restart has another seed


@CASES
def test_calls_of_the_lm_do_not_grow_with_restarts_and_with_contexts_only_by_width(make_problem, searcher, monkeypatch):
    def calls(steps=2, **settings):
        problem = make_problem(targets=(0, 1, 2, 3), length=4, **settings)
        nothing = torch.zeros(len(problem), problem.length, dtype=torch.long)
        search = ChunkSearch(searcher, problem, BestSoFar(nothing, 0.0, None))
        search.init(*random_starts(problem), 0.0)
        search.step()  # what an LM keeps is measured once
        made, inner = [], FrozenLM.features
        monkeypatch.setattr(FrozenLM, "features", lambda *args, **kw: made.append(1) or inner(*args, **kw))
        for _ in range(steps):
            search.step()
        monkeypatch.setattr(FrozenLM, "features", inner)
        return len(made)

    one = calls()
    # candidates are grouped by their first change: more of them may pay for more groups, by one pass each at most
    slack = 2 * (4 - 1)
    assert calls(restarts=4) <= one + slack
    texts = [("The", None), ("One", None), ("A", None), ("He", None)]  # all of one padded width
    assert calls(texts=texts) <= one + slack
    assert calls(texts=texts, restarts=3) <= one + slack


@CASES
def test_a_single_allowed_token_ends_in_that_prompt(make_problem, find, searcher):
    problem = make_problem(allow=["e"], length=2, readable=False)
    best = find(searcher, problem, 4)
    assert (best.prompts == problem.allowed[0]).all()


# ---- where they end ----

LETTERS = list("abcdefghijkl")


def optimum(problem):
    """Lowest KL of all prompts, by trying each."""
    ids = torch.tensor(list(itertools.product(problem.allowed.tolist(), repeat=problem.length)))
    table = problem.scorer.table(ids, torch.zeros(len(ids), dtype=torch.long))
    _, best = problem.readable.best(ids.expand(len(problem), -1, -1), table.T, all_slots(problem))
    return best


@pytest.mark.parametrize("searcher", [CoordinateDescent(), HotFlip(num_candidates=99), ARCA(num_candidates=99)])
def test_a_sweep_that_changes_nothing_is_the_last(make_problem, find, searcher):
    problem = make_problem(allow=LETTERS, length=3)
    best = find(searcher, problem, 60)
    assert (best.reason == StopReason.EXHAUSTED).all()
    assert (best.steps % problem.length == 0).all()
    # no change of a single token is better
    for target, (own, kl) in enumerate(zip(best.prompts, best.kl, strict=True)):
        near = own.repeat(problem.length, len(problem.allowed), 1)
        for place in range(problem.length):
            near[place, :, place] = problem.allowed
        near = near.flatten(0, 1)
        scores = problem.scorer.scores(near, torch.full((len(near),), target))
        _, lowest = problem.readable.best(near.unsqueeze(0), scores.unsqueeze(0), torch.tensor([target]))
        assert lowest >= kl - 1e-5


@pytest.mark.parametrize(
    ("searcher", "length", "restarts"),
    [
        (SharedSearch(), 2, 1),
        (SharedSearch(), 3, 1),
        (SharedSearch(share=False), 2, 1),
        (CoordinateDescent(), 2, 20),
        (HotFlip(num_candidates=12, beam_size=12), 2, 1),
    ],
)
def test_restarts_find_the_optimum_of_a_small_vocabulary(make_problem, find, searcher, length, restarts):
    targets = range(20)
    lowest = optimum(make_problem(targets=targets, allow=LETTERS, length=length))
    kl = torch.full_like(lowest, torch.inf)
    for seed in range(restarts):
        kl = torch.minimum(kl, find(searcher, make_problem(targets, length, allow=LETTERS, seed=seed), 60).kl)
    assert (kl >= lowest - 1e-5).all()
    assert (kl <= lowest + 1e-5).sum() >= 19


@pytest.mark.parametrize("share", [True, False])
def test_the_shared_search_ends_when_it_has_tried_every_prompt(make_problem, find, share):
    best = find(SharedSearch(share=share), make_problem(allow=LETTERS, length=2), 400)
    assert (best.reason == StopReason.EXHAUSTED).all()
    assert len(set(best.steps.tolist())) == 1 or not share


def test_a_search_that_the_first_version_began_goes_on(make_problem):
    def begun():
        problem = make_problem()
        return ChunkSearch(SharedSearch(), problem, BestSoFar(torch.zeros(3, 4, dtype=torch.long), 0.0, None))

    search = begun()
    search.init(*random_starts(make_problem()), 0.0)
    for _ in range(3):
        search.step()
    former = copy.deepcopy(search.state_dict())
    for name in ("elites", "elite_scores", "gained", "moved", "spent"):
        del former["state"][name]
    resumed = begun()
    resumed.load_state_dict(former)
    for _ in range(5):
        resumed.step()
    assert (resumed.best.kl <= search.best.kl).all()
    assert (resumed.best.kl < search.best.kl).any()


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_search_that_forgets_is_bounded_never_stuck_and_resumes_exactly(make_problem, share, monkeypatch):
    monkeypatch.setattr(shared_search, "_REMEMBERED", 1)
    targets, most = range(4), len(MOVES) * 3 * (len(LETTERS) - 1)  # the swaps of a prompt, and other moves

    def begun():
        problem = make_problem(targets, length=3, allow=LETTERS)
        return ChunkSearch(
            SharedSearch(share=share), problem, BestSoFar(torch.zeros(4, 3, dtype=torch.long), 0.0, None)
        )

    whole, resumed = begun(), begun()
    whole.init(*random_starts(make_problem(targets, length=3, allow=LETTERS)), 0.0)
    for step in range(300):
        whole.step()
        if step == 75:
            resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        elif step > 75:
            resumed.step()
    state = whole.state_dict()["state"]
    assert state["tried"].tolist() == ([4 * most, 0, 0, 0] if share else [most] * 4)
    assert len(state["visited"]) == 4 * most
    assert whole.best.running.all()  # what was forgotten may have been tried or not
    lowest = optimum(make_problem(targets, length=3, allow=LETTERS))
    assert (whole.best.kl <= lowest + 1e-5).sum() >= 3
    assert all(value.equal(resumed.state_dict()["state"][name]) for name, value in state.items())
    assert resumed.best.kl.equal(whole.best.kl)
    assert resumed.best.forward_passes.equal(whole.best.forward_passes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HotFlip(beam_size=0), "model.searcher beam_size is 0; it must be at least 1"),
        (lambda: HotFlip(num_candidates=0), "num_candidates is 0"),
        (lambda: CoordinateDescent(order="sideways"), "order is sideways; it must be forward, backward or random"),
        (lambda: ARCA(averaged=0), "averaged is 0"),
        (lambda: PEZ(lr=-1.0), "lr is -1.0; it must be at least 0"),
        (lambda: PEZ(weight_decay=float("nan")), "weight_decay is nan"),
        (lambda: PEZ(metric="manhattan"), "metric is manhattan; it must be cosine or euclidean"),
        (lambda: GBDA(temperature=0.0), "temperature is 0.0"),
        (lambda: GBDA(sample_every=0), "sample_every is 0"),
        (lambda: RandomSearch(swaps=0), "swaps is 0"),
        (lambda: GCG(n_replace=2, n_replace_start=1), "n_replace_start is 1; it must be at least 2"),
        (lambda: SharedSearch(width=0), "width is 0"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_search_that_an_older_version_has_begun_goes_on(make_problem):
    def begun():
        return ChunkSearch(SharedSearch(), make_problem(), BestSoFar(torch.zeros(3, 4, dtype=torch.long), 0.0, None))

    search = begun()
    search.init(*random_starts(make_problem()), 0.0)
    search.step()
    saved = copy.deepcopy(search.state_dict())
    before = search.best.kl.clone()
    state = saved["state"]
    for name in ("swaps", "likely", "shares", "proposed_for", "spent"):
        del state[name]
    state |= {name: state[name][:, :7].clone() for name in ("gained", "moved")}
    search = begun()
    search.load_state_dict(saved)
    for _ in range(3):
        search.step()
    assert (search.best.kl < before).any()
    assert search.state_dict()["state"]["gained"].shape == (3, len(MOVES))


def test_tokens_are_proposed_once_for_a_prompt_that_stays(make_problem, find, monkeypatch):
    asked = []
    inner = Proposals.of

    def count(problem, ids, slots, k):
        asked.extend((slot, *own) for slot, own in zip(slots.tolist(), ids.tolist(), strict=True))
        return inner(problem, ids, slots, k)

    searcher = SharedSearch(width=4, top_k=16)
    monkeypatch.setattr(Proposals, "of", count)
    kept = find(searcher, make_problem(), 30)
    assert len(asked) < 3 * 30
    assert all(
        one != another for one, another in itertools.pairwise(sorted(asked))
    )  # no prompt comes back in so few steps

    class Forgetful(SharedSearch):
        def _proposals(self, problem, state, running):
            return inner(problem, state["ids"][running], running, self.top_k)

    anew = find(Forgetful(width=4, top_k=16), make_problem(), 30)
    assert torch.equal(kept.prompts, anew.prompts)
    assert torch.equal(kept.kl, anew.kl)


def test_a_prompt_may_be_so_long_that_no_number_holds_how_many_there_are(make_problem, find):
    problem = make_problem(targets=(0,), length=150, readable=False)
    start = problem.allowed[torch.zeros(1, 150, dtype=torch.long)], torch.tensor([100.0])
    assert len(problem.allowed) ** 150 > 10**308
    assert find(SharedSearch(width=2, top_k=4), problem, 1, start).kl.isfinite().all()


def test_every_slot_tries_something(make_problem):
    problem = make_problem(targets=(0, 1), length=1)
    search = SharedSearch(width=1, share=False)
    for price in torch.arange(1.0, 200.0, dtype=torch.float64):  # times its inverse it may be less than 1
        prices = price.expand(2, 1)
        assert search._counts(problem, torch.arange(2), torch.zeros(2), prices).tolist() == [1, 1]


def test_what_is_drawn_for_a_random_start_counts_as_no_result(make_problem):
    problem = make_problem()
    problem.readable.kept = KeptCandidates(len(problem), 4, problem.length)
    random_starts(problem)
    assert problem.readable.kept.scores.isinf().all()
