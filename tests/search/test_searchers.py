"""Every searcher: what it finds is true, allowed, readable and its own."""

import copy
import itertools

import pytest
import torch

from lit_prompt.errors import InputError
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
    Part,
    RandomSearch,
    SharedSearch,
    StopReason,
    random_starts,
)

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
    text = [torch.cat([problem.before, own, problem.after]) for own in ids]
    with torch.no_grad():
        log_q = problem.lm.model(torch.stack(text)).logits[:, -1].double().log_softmax(-1)
    log_p = problem.log_probs.double()
    return (log_p.exp() * (log_p - log_q)).sum(-1)


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
    _, start = problem.readable.best(ids.unsqueeze(1), scores.unsqueeze(1))
    best = find(searcher, problem, STEPS, (ids, scores))
    assert best.kl.isfinite().all()
    torch.testing.assert_close(best.kl.double(), true_kl(problem, best.prompts), atol=1e-5, rtol=1e-5)
    assert (best.kl <= start).all()
    assert torch.isin(best.prompts, problem.allowed).all()
    _, readable = problem.readable.best(best.prompts.unsqueeze(1), best.kl.unsqueeze(1))
    assert readable.tolist() == best.kl.tolist()
    # every one improves some target; the relaxations need not
    if not isinstance(searcher, (PEZ, GBDA)):
        assert (best.kl < start).any()


@CASES
def test_a_good_start_that_is_no_text_stands_in_no_ones_way(make_problem, loaded, find, searcher):
    problem = make_problem()
    letters = [loaded()[1].encode(letter)[0] for letter in "said"]
    ids = torch.tensor([letters] * len(problem))
    _, readable = problem.readable.best(ids.unsqueeze(1), torch.zeros(len(problem), 1))
    assert readable.isinf().all()  # the tokenizer has a token for "ai"
    best = find(searcher, problem, STEPS, (ids, torch.full((len(problem),), -100.0)))
    assert best.kl.isfinite().all()
    torch.testing.assert_close(best.kl.double(), true_kl(problem, best.prompts), atol=1e-5, rtol=1e-5)


@CASES
def test_fluency_is_part_of_the_score(make_problem, find, searcher):
    problem = make_problem(fluency=0.5, before="The king")
    best = find(searcher, problem, 3)
    whole = torch.cat([problem.before.expand(len(problem), -1), best.prompts], 1)
    with torch.no_grad():
        log_q = problem.lm.model(whole).logits.double().log_softmax(-1)
    first = len(problem.before)
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
        best = find(SMALL[name], problem, STEPS, (ids, problem.scores(ids, own)))
        return list(zip(best.prompts.tolist(), best.forward_passes.tolist(), strict=True))

    assert found((0, 1, 2)) == [found((t,))[0] for t in (0, 1, 2)]


@CASES
def test_a_search_goes_on_exactly_from_its_state(make_problem, searcher):
    def begun(problem):
        slots = torch.zeros(len(problem), problem.length, dtype=torch.long)
        return ChunkSearch(searcher, [Part(problem, torch.arange(len(problem)))], BestSoFar(slots, 0.0, None))

    whole = begun(make_problem())
    whole.begin([random_starts(make_problem())], 0.0)
    for step in range(5):
        if step == 2:
            saved = {
                "search": copy.deepcopy(whole.state_dict()),
                "best": copy.deepcopy(whole.best.state_dict()),
            }
        whole.step()
    resumed = begun(make_problem())
    resumed.best.load_state_dict(saved["best"])
    resumed.load_state_dict(saved["search"])
    for _ in range(3):
        resumed.step()
    assert resumed.best.prompts.equal(whole.best.prompts)
    assert resumed.best.kl.equal(whole.best.kl)
    assert resumed.best.forward_passes.equal(whole.best.forward_passes)
    for name, value in whole.state_dict()["states"][0].items():
        assert value.equal(resumed.state_dict()["states"][0][name]), name


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
    _, best = problem.readable.best(ids.expand(len(problem), -1, -1), problem.scores(ids).T)
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
        scores = problem.scores(near, torch.full((len(near),), target))
        _, lowest = problem.readable.best(near.unsqueeze(0), scores.unsqueeze(0))
        assert lowest >= kl - 1e-5


@pytest.mark.parametrize(
    ("searcher", "length", "restarts"),
    [
        (SharedSearch(), 2, 1),
        (SharedSearch(), 3, 1),
        (SharedSearch(share=False), 2, 1),
        (CoordinateDescent(), 2, 10),
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
