"""Starts from a bank of prompts: readable, allowed, the same every time, and better than random ones."""

import pytest
import torch

from lit_prompt.data.texts import TextSource
from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, FrozenLM, LMCache, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.objectives import ForwardKL, JensenShannon, WeightedSum
from lit_prompt.records import arrays
from lit_prompt.scoring import Contexts, LMScorer, MicroBatch
from lit_prompt.search import PromptBank, TokenProblem, TokenStart, random_starts, text_starts
from lit_prompt.search.starts import scored
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA
from tests.places import round_trip, single_targets

LENGTH = 6
FORWARD_KL = ForwardKL()
TEXT = "Once upon a time there was a king who had three sons, and the youngest of them was called Hans.\n\n"


@pytest.fixture(scope="module")
def loaded():
    """The embedded LMs with their vocabularies, loaded once."""
    made = {}

    def get(folder=EMBEDDED_LLAMA):
        if folder not in made:
            options = LMOptions()
            lm = FrozenLM(load_causal_lm(str(folder), options))
            made[folder] = lm, Vocabulary.load(str(folder), options)
        return made[folder]

    return get


def problem_of(lm, vocabulary, names=range(4), **settings):
    """A problem of random targets, named by their numbers; settings as of :func:`problem`."""
    log_p, scale = [], [1.0, 2.0, 4.0, 8.0]
    for name in names:
        logits = torch.randn(lm.vocab_size, generator=torch.Generator().manual_seed(name))
        log_p.append((scale[name % 4] * logits).log_softmax(-1))
    log_p = torch.stack(log_p)
    return problem(lm, vocabulary, [f"t{i}" for i in names], log_p, **settings)


def problem(
    lm,
    vocabulary,
    names,
    log_p,
    around=("", ""),
    length=LENGTH,
    seed=0,
    tokens=AllowedTokens(),
    objective=FORWARD_KL,
    screened=False,
):
    contexts = Contexts(*around, lm, vocabulary)
    slots = single_targets(names, [contexts.default] * len(names))
    scorer = LMScorer(lm, slots, log_p, length, objective, MicroBatch())
    rough = None
    if screened:
        rough = LMScorer(lm.rounded(torch.bfloat16, 64), slots, log_p, length, objective, MicroBatch())
    trips = [contexts.round_trip([contexts.default])] * len(names)
    return TokenProblem(scorer, log_p, torch.tensor(tokens.ids(vocabulary)), seed, trips, rough)


def starts_of(problem, vocabulary, share=True, cache=None, **settings):
    """The best start of each slot."""
    ids, scores = every_start_of(problem, vocabulary, share, cache, **settings)
    return ids[:, 0], scores[:, 0]


def every_start_of(problem, vocabulary, share=True, cache=None, **settings):
    small = {"random_sequences": 8, "sampled_texts": 8, "drawn_sequences": 4, "natural_texts": 8}
    cache = cache or LMCache(problem.lm)
    return PromptBank(TokenStart(**small | settings), vocabulary, share, cache).starts(problem)


@pytest.mark.parametrize(
    ("around", "share"),
    [(("", ""), True), (("The king said", ""), False), (("", " had"), True), (("Yes,", " and"), False)],
)
@pytest.mark.parametrize("folder", [EMBEDDED_LLAMA, EMBEDDED_GPT2])
def test_starts_are_readable_allowed_and_scored(loaded, folder, around, share):
    lm, vocabulary = loaded(folder)
    problem = problem_of(lm, vocabulary, around=around, tokens=AllowedTokens("ascii"))
    ids, scores = starts_of(problem, vocabulary, share)
    assert ids.shape == (4, LENGTH)
    assert (problem.table.index(ids) >= 0).all()
    assert all(round_trip(vocabulary, *around).survives(ids.tolist()))
    assert (problem.scorer.scores(ids, torch.arange(4)) - scores).abs().max() <= 1e-5
    assert problem.scorer.take_passes().min() > 0


def test_the_same_seed_gives_the_same_starts(loaded):
    lm, vocabulary = loaded()
    first, again, other = (starts_of(problem_of(lm, vocabulary, seed=s), vocabulary) for s in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_without_sharing_a_start_does_not_depend_on_company(loaded):
    lm, vocabulary = loaded()
    ids, scores = starts_of(problem_of(lm, vocabulary, range(6)), vocabulary, share=False)
    for names in ([3], [5, 0, 2]):
        own_ids, own_scores = starts_of(problem_of(lm, vocabulary, names), vocabulary, share=False)
        assert torch.equal(own_ids, ids[names])
        assert (own_scores - scores[names]).abs().max() <= 1e-6


def test_sharing_can_only_help(loaded):
    lm, vocabulary = loaded()
    alone, shared = (starts_of(problem_of(lm, vocabulary, range(6)), vocabulary, share)[1] for share in (False, True))
    assert (shared <= alone + 1e-5).all()


@pytest.mark.parametrize("share", [True, False])
def test_what_else_is_offered_is_scored_and_the_best_there_is(loaded, share):
    lm, vocabulary = loaded()
    problem = problem_of(lm, vocabulary, range(3))
    ids, scores = every_start_of(problem, vocabulary, share)
    others, own = ids[:, 1:], scores[:, 1:]
    assert (own[:, 1:] >= own[:, :-1]).all()
    assert (own[:, 0] <= scores[:, 0]).all()  # which need not survive as text
    known = own.isfinite()
    slots = torch.arange(3).unsqueeze(1).expand_as(own)[known]
    assert (problem.scorer.scores(others[known], slots) - own[known]).abs().max() <= 1e-5


@pytest.mark.parametrize("share", [True, False])
def test_a_screened_bank_is_read_in_half_precision_and_scored_by_the_lm_itself(loaded, tmp_path, monkeypatch, share):
    lm, vocabulary = loaded()
    cache = LMCache(lm, tmp_path)
    starts_of(problem_of(lm, vocabulary), vocabulary, share, cache)  # states of the LM itself are kept
    widths, inner = {torch.float32: [], torch.bfloat16: []}, FrozenLM.features

    def count(self, inputs_embeds, *args, **kw):
        widths[self.dtype].append(inputs_embeds.shape[1])
        return inner(self, inputs_embeds, *args, **kw)

    monkeypatch.setattr(FrozenLM, "features", count)
    screened = problem_of(lm, vocabulary, screened=True)
    ids, scores = starts_of(screened, vocabulary, share, cache)
    assert max(widths[torch.float32]) == LENGTH  # prompts alone
    assert max(widths[torch.bfloat16]) > LENGTH
    assert (screened.scorer.scores(ids, torch.arange(4)) - scores).abs().max() <= 1e-5
    for kept in (cache, LMCache(lm)):  # states of the copy are no states of the LM
        widths[torch.bfloat16].clear()
        again = starts_of(problem_of(lm, vocabulary, screened=True), vocabulary, share, kept)
        assert torch.equal(again[0], ids)
        assert torch.equal(again[1], scores)
        if kept is cache:
            assert max(widths[torch.bfloat16]) < 64  # that of natural texts
    if not share:
        alone = starts_of(problem_of(lm, vocabulary, [2], screened=True), vocabulary, share)
        assert torch.equal(alone[0], ids[2:3])


def test_natural_texts_are_read_in_pieces_one_after_another(loaded, tmp_path):
    lm, vocabulary = loaded()
    (tmp_path / "tale.txt").write_text(TEXT * 30)
    problem = problem_of(lm, vocabulary)
    start = TokenStart(texts=TextSource(str(tmp_path / "tale.txt")), natural_texts=3)
    pieces = PromptBank(start, vocabulary, True, LMCache(lm))._natural(problem, 0)
    assert pieces.shape == (3, 64)
    text = " ".join([TEXT.strip()] * 30)
    assert vocabulary.tokenizer.decode(pieces.flatten().tolist()).strip() in text


@pytest.mark.parametrize("length", [6, 16, 40])
def test_long_prompts_have_longer_sequences_and_no_more_tokens(loaded, tmp_path, length):
    lm, vocabulary = loaded()
    (tmp_path / "tale.txt").write_text(TEXT * 60)
    texts = TextSource(str(tmp_path / "tale.txt"))
    start = TokenStart("bank", random_sequences=8, sampled_texts=16, texts=texts, natural_texts=8)
    bank, problem = PromptBank(start, vocabulary, True, LMCache(lm)), problem_of(lm, vocabulary, length=length)
    random, sampled = bank._common(problem, 0)
    drawn, natural = bank._drawn(problem, 0), bank._natural(problem, 0)
    width = {6: 24, 16: 64, 40: 104}[length]
    counts = {6: (8, 16, 8), 16: (8, 16, 8), 40: (5, 10, 5)}[length]
    assert [part.shape for part in (random, sampled, drawn)] == [(count, width) for count in counts]
    assert natural.shape == ((8, 64) if width <= 64 else (5, 104))


@pytest.mark.parametrize("around", [("", ""), ("The king said", " had")])
def test_better_than_random_starts(loaded, around):
    lm, vocabulary = loaded()
    problem = problem_of(lm, vocabulary, range(8), around=around)
    random, bank = random_starts(problem)[1], starts_of(problem, vocabulary, share=False)[1]
    assert bank.mean() < random.mean() - 0.5
    assert (bank <= random).sum() >= 7


def test_each_kind_of_sequence_may_be_left_out(loaded, tmp_path):
    lm, vocabulary = loaded()
    (tmp_path / "tale.txt").write_text(TEXT * 30)
    texts = TextSource(str(tmp_path / "tale.txt"))
    little = {"random_sequences": 1, "sampled_texts": 0, "drawn_sequences": 0, "texts": None}
    found = {}
    for name, more in {
        "little": {}, "random": {"random_sequences": 32}, "sampled": {"sampled_texts": 16},
        "drawn": {"drawn_sequences": 8}, "natural": {"texts": texts, "natural_texts": 8},
    }.items():  # fmt: skip
        problem = problem_of(lm, vocabulary)
        found[name] = starts_of(problem, vocabulary, **{**little, **more})[1]
        assert (found[name] <= found["little"] + 1e-5).all(), name
    assert (found["drawn"] < found["little"]).any()


def test_natural_texts_can_be_what_is_found(loaded, tmp_path):
    lm, vocabulary = loaded()
    ids = vocabulary.encode(TEXT.strip() * 3)
    (tmp_path / "tale.txt").write_text(TEXT.strip() * 3)
    with torch.no_grad():  # what the LM says after the text's first tokens
        log_p = lm.next_token_logits(lm.embed(torch.tensor([ids[:LENGTH]]))).log_softmax(-1)
    found, score = starts_of(
        problem(lm, vocabulary, ["t"], log_p), vocabulary, texts=TextSource(str(tmp_path / "tale.txt"))
    )
    assert found[0].tolist() == ids[:LENGTH]
    assert abs(float(score[0])) < 1e-4


@pytest.mark.parametrize("length", [1, 2, 7])
def test_every_length(loaded, length):
    lm, vocabulary = loaded()
    ids, scores = starts_of(problem_of(lm, vocabulary, length=length), vocabulary)
    assert ids.shape == (4, length)
    assert scores.isfinite().all()


def test_a_prompt_that_fills_the_lm(make_lm):
    folder = make_lm("gpt2")
    lm, vocabulary = FrozenLM(load_causal_lm(str(folder), LMOptions())), Vocabulary.load(str(folder), LMOptions())
    for length, around in ((64, ("", "")), (30, ("", "")), (58, (" the", " the"))):
        _, scores = starts_of(problem_of(lm, vocabulary, length=length, around=around), vocabulary)
        assert scores.isfinite().sum() > 0


def test_an_lm_of_float64(make_lm):
    folder = make_lm("llama", dtype=torch.float64)
    options = LMOptions(dtype="float64")
    lm, vocabulary = FrozenLM(load_causal_lm(str(folder), options)), Vocabulary.load(str(folder), options)
    for share in (True, False):
        _, scores = starts_of(problem_of(lm, vocabulary), vocabulary, share)
        assert scores.dtype == torch.float64


def test_random_starts_are_readable_and_follow_from_the_target(loaded):
    lm, vocabulary = loaded()
    ids, scores = random_starts(problem_of(lm, vocabulary, range(6)))
    assert all(round_trip(vocabulary, "", "").survives(ids.tolist()))
    own, own_scores = random_starts(problem_of(lm, vocabulary, [4, 1]))
    assert torch.equal(own, ids[[4, 1]])
    assert (own_scores - scores[[4, 1]]).abs().max() <= 1e-6
    assert len({tuple(row) for row in ids.tolist()}) == 6


def test_a_text_is_repeated_or_cut_to_the_length(loaded):
    lm, vocabulary = loaded()
    problem = problem_of(lm, vocabulary)
    short, long = vocabulary.encode("the king"), vocabulary.encode(TEXT.replace("\n", " "))
    for text, expected in ((short, (short * LENGTH)[:LENGTH]), (long, long[:LENGTH])):
        ids, scores = text_starts(problem, text)
        assert ids.tolist() == [expected] * 4
        assert torch.equal(scores, scored(problem, ids)[1])


def test_a_missing_text_file_is_one_line(loaded):
    lm, vocabulary = loaded()
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        starts_of(problem_of(lm, vocabulary), vocabulary, texts=TextSource("nowhere.txt"))


@pytest.mark.parametrize(
    ("objective", "around", "share", "architecture"),
    [
        (ForwardKL(), ("", ""), True, "llama"),
        (ForwardKL(), ("The king", ""), False, "gpt2"),
        (ForwardKL(), ("", " had"), True, "gemma2"),
        (JensenShannon(), ("", ""), True, "llama"),
        (WeightedSum([ForwardKL(), JensenShannon()], [1.0, 0.5]), ("Yes,", " and"), False, "llama"),
    ],
)
def test_a_cache_changes_nothing_but_the_passes_that_are_made(
    make_lm, tmp_path, monkeypatch, objective, around, share, architecture
):
    folder, options = str(make_lm(architecture)), LMOptions()
    lm, vocabulary = FrozenLM(load_causal_lm(folder, options)), Vocabulary.load(folder, options)
    rows, texts = [], []
    features, generate = lm.features, lm.model.generate
    monkeypatch.setattr(lm, "features", lambda x, *rest: rows.append(len(x)) or features(x, *rest))
    monkeypatch.setattr(lm.model, "generate", lambda *a, **rest: texts.append(1) or generate(*a, **rest))

    def found(cache, names=range(4), **settings):
        asked = problem_of(lm, vocabulary, names, around=around, objective=objective)
        rows.clear(), texts.clear()
        ids, scores = starts_of(asked, vocabulary, share, cache, **settings)
        return ids, scores, asked.scorer.take_passes(), sum(rows), len(texts)

    off = found(LMCache(lm))
    empty, filled = (found(LMCache(lm, tmp_path)) for _ in range(2))
    for other in (empty, filled):
        assert all(torch.equal(a, b) for a, b in zip(off[:3], other[:3], strict=True))
    assert empty[3:] == off[3:]
    # natural ones are longer; all are cut to prompts where a text follows
    sequences = 16 + 8 if not around[1] else 16 * 4 + 8 * (64 // LENGTH)
    assert filled[3:] == (off[3] - sequences, 0)
    # other targets find the same states, other sequences do not
    assert found(LMCache(lm, tmp_path), range(4, 6))[4] == 0
    more = {"random_sequences": 9}
    assert torch.equal(found(LMCache(lm, tmp_path), **more)[0], found(LMCache(lm), **more)[0])


def test_states_that_are_too_large_or_damaged_are_made_again(loaded, tmp_path, monkeypatch):
    lm, vocabulary = loaded()
    expected = starts_of(problem_of(lm, vocabulary), vocabulary)
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "LARGEST", 10_000)
        found = starts_of(problem_of(lm, vocabulary), vocabulary, cache=LMCache(lm, tmp_path))
        assert len([*tmp_path.glob("*/*")]) == 1  # the texts
    again = starts_of(problem_of(lm, vocabulary), vocabulary, cache=LMCache(lm, tmp_path))
    for path in tmp_path.glob("*/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = starts_of(problem_of(lm, vocabulary), vocabulary, cache=LMCache(lm, tmp_path))
    for other in (found, again, damaged):
        assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))
