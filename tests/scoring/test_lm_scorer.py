"""Scores and gradients of token prompts, against transformers and finite differences."""

import pytest
import torch
import transformers
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.objectives import ForwardKL, JensenShannon, ReverseKL, WeightedSum
from lit_prompt.scoring import Context, LMScorer, MicroBatch, prompted_lm
from lit_prompt.search import TokenProblem
from lit_prompt.search.first_order import swap_gradient
from tests.conftest import ARCHITECTURES, VOCABULARY
from tests.places import single_targets

LENGTH = 5
TARGETS = 3
#: tokens before and after the prompt
AROUND = [((), ()), ((7, 300, 21), ()), ((), (9, 40)), ((11,), (200, 3, 3, 17))]
FLUENCY = [0.0, 0.7]


@pytest.fixture(scope="module")
def lms():
    """Tiny LMs by architecture and dtype, made once."""
    made = {}

    def get(architecture="llama", dtype=torch.float32):
        if (architecture, dtype) not in made:
            config = ARCHITECTURES[architecture]()
            config.initializer_range = config.init_std = 0.3
            torch.manual_seed(0)
            made[architecture, dtype] = FrozenLM(transformers.AutoModelForCausalLM.from_config(config).to(dtype))
        return made[architecture, dtype]

    return get


def targets():
    """A random, a peaked and a one-hot distribution."""
    logits = torch.randn(TARGETS, VOCABULARY, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_p = (logits * torch.tensor([[1.0], [4.0], [0.0]])).log_softmax(-1)
    log_p[2] = -torch.inf
    log_p[2, 77] = 0.0
    return log_p


def scorer_of(lm, before=(), after=(), fluency=0.0, length=LENGTH, restarts=1, contexts=None):
    context = Context("", "", tuple(before), tuple(after), own=False)
    slots = single_targets([f"t{i}" for i in range(TARGETS)], contexts or [context] * TARGETS, restarts)
    return LMScorer(lm, slots, targets().float(), length, ForwardKL(), MicroBatch(), fluency)


def token_problem(scorer, allowed=None):
    return TokenProblem(scorer, targets().float(), torch.arange(1, VOCABULARY) if allowed is None else allowed, 0)


def table(scorer, ids, *varied):
    """Scores for all targets of a scorer with a single group."""
    return scorer.table(ids, torch.zeros(len(ids), dtype=torch.long), *varied)


def scan(scorer, sequences):
    return scorer.scan(sequences, torch.arange(TARGETS), True)


def bases_of(scorer, ids):
    return scorer.bases(ids, torch.zeros(len(ids), dtype=torch.long))


def random_prompts(count, length=LENGTH, seed=1):
    return torch.randint(1, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def reference(lm, ids, before=(), after=(), fluency=0.0):
    """KL + fluency * mean negative log-likelihood, from the model's own logits, ``[prompt, target]``, float64."""
    log_p = targets()
    rows = []
    for row in ids.tolist():
        whole = torch.tensor([[*before, *row, *after]])
        log_q = lm.model(input_ids=whole).logits[0].double().log_softmax(-1)
        kl = torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_q[-1]), 0.0).sum(-1)
        nll = -sum(
            log_q[len(before) + i - 1, token] for i, token in enumerate(row) if len(before) + i > 0
        )  # without a text before it the first token has no likelihood
        rows.append(kl + fluency * nll / len(row))
    return torch.stack(rows)


def variations(base, count=40):
    """Prompts that differ from one of the bases in one or two places, at every place, and some that do not."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randint(len(base), (count,), generator=generator)
    ids = base[rows].clone()
    for i in range(count):
        for _ in range(i % 3):
            place = int(torch.randint(base.shape[1], (1,), generator=generator))
            ids[i, place] = torch.randint(1, VOCABULARY, (1,), generator=generator)
    return ids, rows


@pytest.mark.parametrize("fluency", FLUENCY)
@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "phi"])
def test_scores_are_those_of_the_model(lms, architecture, before, after, fluency):
    lm = lms(architecture)
    scorer = scorer_of(lm, before, after, fluency)
    base = random_prompts(4)
    ids, rows = variations(base)
    own = torch.arange(len(ids)) % TARGETS
    expected = reference(lm, ids, before, after, fluency)
    tolerance = 1e-4 if fluency else 2e-5
    bases = bases_of(scorer, base)
    assert bases.caches[0] is not None
    assert (bases.log_probs is not None) == bool(fluency)
    for scores in (table(scorer, ids), table(scorer, ids, bases, rows)):
        assert scores.shape == (len(ids), TARGETS)
        assert (scores - expected).abs().max() <= tolerance
    for scores in (scorer.scores(ids, own), scorer.scores(ids, own, bases, rows)):
        assert scores.shape == (len(ids),)
        assert (scores - expected[torch.arange(len(ids)), own]).abs().max() <= tolerance


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_with_cached_beginnings_are_the_full_ones(lms, architecture):
    scorer = scorer_of(lms(architecture), *AROUND[1])
    base = random_prompts(4)
    ids, rows = variations(base)
    assert (table(scorer, ids, bases_of(scorer, base), rows) - table(scorer, ids)).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_scores_where_nothing_is_cached(lms, fluency, monkeypatch):
    monkeypatch.setattr(FrozenLM, "caches_prefixes", lambda self, positions, padded: False)
    scorer = scorer_of(lms(), *AROUND[3], fluency)
    base = random_prompts(4)
    ids, rows = variations(base)
    bases = bases_of(scorer, base)
    assert bases.caches[0] is None
    found = table(scorer, ids, bases, rows)
    assert (found - reference(lms(), ids, *AROUND[3], fluency)).abs().max() <= 1e-4


@pytest.mark.parametrize("fluency", FLUENCY)
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_prompts_of_a_single_token(lms, before, after, fluency):
    scorer = scorer_of(lms(), before, after, fluency, length=1)
    ids = random_prompts(6, 1)
    expected = reference(lms(), ids, before, after, fluency)
    base, rows = ids[:2], torch.tensor([0, 1, 0, 1, 0, 1])
    for scores in (table(scorer, ids), table(scorer, ids, bases_of(scorer, base), rows)):
        assert (scores - expected).abs().max() <= 1e-4
    assert swap_gradient(token_problem(scorer), ids, torch.zeros(6, dtype=torch.long)).shape == (6, 1, VOCABULARY - 1)


def test_no_prompt_has_no_score(lms):
    scorer = scorer_of(lms())
    nothing, no_rows = torch.zeros(0, LENGTH, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    assert table(scorer, nothing).shape == (0, TARGETS)
    assert table(scorer, nothing, bases_of(scorer, random_prompts(2)), no_rows).shape == (0, TARGETS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_lm_of_another_dtype(lms, dtype):
    lm = lms("llama", dtype)
    scorer = scorer_of(lm, *AROUND[1], 0.5)
    base = random_prompts(3)
    ids, rows = variations(base)
    found = table(scorer, ids, bases_of(scorer, base), rows)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-5 if dtype == torch.float64 else 0.5
    assert (found - reference(lm, ids, *AROUND[1], 0.5)).abs().max() <= tolerance


# ---- gradients ----


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_gradient_is_that_of_finite_differences(lms, architecture, before, after):
    lm = lms(architecture, torch.float64)
    scorer = scorer_of(lm, before, after)
    own = torch.tensor([2, 0, 1, 0])
    embeddings = lm.embed(random_prompts(4)).float()
    kls, gradient = scorer.gradient(embeddings, own)
    assert gradient.dtype == torch.float32

    @torch.no_grad()
    def kl_at(x):
        around = [lm.embed(torch.tensor(ids, dtype=torch.long)).expand(4, -1, -1) for ids in (before, after)]
        log_q = lm.model(inputs_embeds=torch.cat([around[0], x, around[1]], 1)).logits[:, -1].log_softmax(-1)
        log_p = targets()[own]
        return torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_q), 0.0).sum(-1)

    assert (kls - kl_at(embeddings.double())).abs().max() <= 1e-5
    generator = torch.Generator().manual_seed(8)
    for _ in range(5):
        direction = torch.randn(embeddings.shape, generator=generator, dtype=torch.float64)
        step = 1e-3  # transformers computes some parts in float32
        difference = (kl_at(embeddings + step * direction) - kl_at(embeddings - step * direction)) / (2 * step)
        slope = (gradient * direction).sum((1, 2))
        assert torch.allclose(difference, slope, rtol=2e-2, atol=2e-2 * float(gradient.norm(dim=(1, 2)).mean()))


def test_swap_gradient_is_the_slope_towards_each_allowed_token(lms):
    lm = lms("llama", torch.float64)
    allowed = torch.tensor([3, 50, 51, 200, 319])
    scorer = scorer_of(lm, *AROUND[1])
    ids, own = random_prompts(2), torch.tensor([1, 0])
    change = swap_gradient(token_problem(scorer, allowed), ids, own)
    assert change.shape == (2, LENGTH, 5)
    table = lm.embed(torch.arange(VOCABULARY))
    step = 1e-3
    for place in range(LENGTH):
        for choice, token in enumerate(allowed.tolist()):
            kls = []
            for sign in (1, -1):
                x = table[ids].clone()
                x[:, place] += sign * step * (table[token] - x[:, place])
                kls.append(scorer.gradient(x.float(), own)[0])
            slope = (kls[0] - kls[1]) / (2 * step)
            # the table gives it up to the same constant at a position
            other = table[ids[:, place]].float() * scorer.gradient(table[ids].float(), own)[1][:, place]
            expected = change[:, place, choice] - other.sum(-1)
            assert torch.allclose(slope.float(), expected, rtol=2e-2, atol=2e-2)


# ---- parts ----


@pytest.mark.parametrize("fluency", FLUENCY)
def test_parts_change_nothing(lms, fluency, monkeypatch):
    lm = lms()
    base = random_prompts(4)
    ids, rows = variations(base, 60)
    own = torch.arange(len(ids)) % TARGETS

    def everything(scorer):
        bases = bases_of(scorer, base)
        kls, gradient = scorer.gradient(lm.embed(ids).float(), own)
        found = [table(scorer, ids), table(scorer, ids, bases, rows), scorer.scores(ids, own, bases, rows)]
        return [*found, scan(scorer, random_prompts(6, 4 * LENGTH)), kls, gradient]

    scorer = scorer_of(lm, (4, 8), (), fluency)
    whole = everything(scorer)
    for size in (1, 7, 16):
        scorer.micro_batch.size = size
        for found, expected in zip(everything(scorer), whole, strict=True):
            assert (found - expected).abs().max() <= 1e-5
    scorer.micro_batch.size = None
    monkeypatch.setattr(prompted_lm, "_BYTES_PER_PART", 1)
    for found, expected in zip(everything(scorer), whole, strict=True):
        assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_out_of_memory_halves_and_goes_on(lms, fluency, monkeypatch, caplog):
    lm = lms()
    base = random_prompts(12)
    ids, rows = variations(base, 60)
    scorer = scorer_of(lm, (4,), (), fluency)
    expected = table(scorer, ids)
    gradient = scorer.gradient(lm.embed(ids).float(), rows % TARGETS)[1]
    inner = FrozenLM.features

    def small_device(self, inputs_embeds, *args, **kwargs):
        # the LM pads to 16 rows in all
        if len(inputs_embeds) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, inputs_embeds, *args, **kwargs)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    assert (table(scorer, ids) - expected).abs().max() <= 1e-5
    assert scorer.micro_batch.size == 15
    assert "out of memory with 60 prompts at once; going on with 30 at once" in caplog.text
    assert (scorer.gradient(lm.embed(ids).float(), rows % TARGETS)[1] - gradient).abs().max() <= 1e-5
    bases = bases_of(scorer, base)
    assert (table(scorer, ids, bases, rows) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_out_of_memory_while_bases_are_prepared(lms, fluency, monkeypatch):
    scorer = scorer_of(lms(), (4,), (), fluency)
    base = random_prompts(12)
    ids, rows = variations(base, 60)
    expected = table(scorer, ids)
    bases_of(scorer, base)  # what the LM keeps is measured the first time
    inner = FrozenLM.features

    def small_device(self, inputs_embeds, *args, **kwargs):
        if len(inputs_embeds) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, inputs_embeds, *args, **kwargs)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    bases = bases_of(scorer, base)
    assert scorer.micro_batch.size == 3
    monkeypatch.setattr(FrozenLM, "features", inner)
    assert (table(scorer, ids, bases, rows) - expected).abs().max() <= 1e-5


def test_out_of_memory_with_a_single_prompt_is_one_line(lms, monkeypatch):
    scorer = scorer_of(lms())
    bases_of(scorer, random_prompts(3))  # what the LM keeps is measured the first time

    def no_room(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FrozenLM, "features", no_room)
    for call in (table, scan, bases_of):
        with pytest.raises(InputError, match="out of memory with a single prompt"):
            call(scorer, random_prompts(3))


# ---- the rest ----


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("before", [(), (7, 300, 21)])
def test_scan_scores_every_end_of_a_sequence(lms, architecture, before):
    lm = lms(architecture)
    sequences = random_prompts(3, 12)
    kl = scan(scorer_of(lm, before), sequences)
    assert kl.shape == (3, 12 - LENGTH + 1, TARGETS)
    for end in range(kl.shape[1]):
        expected = reference(lm, sequences[:, : LENGTH + end], before)
        assert (kl[:, end] - expected).abs().max() <= 2e-5


def test_scan_of_whole_prompts_before_a_text_is_their_score(lms):
    scorer = scorer_of(lms(), *AROUND[3])
    ids = random_prompts(6)
    assert (scan(scorer, ids)[:, 0] - table(scorer, ids)).abs().max() <= 1e-6


def test_random_numbers_follow_from_target_restart_and_name(lms):
    problem, other = (token_problem(scorer_of(lms(), restarts=2)) for _ in range(2))

    def drawn(slot, name, of=problem):
        return of.random_ids(20, of.generator(slot, name)).tolist()

    assert drawn(1, "x") == drawn(1, "x", other)
    assert len({tuple(drawn(slot, name)) for slot in range(6) for name in "xy"}) == 12


def test_index_and_random_ids_are_among_the_allowed(lms):
    allowed = torch.tensor([3, 50, 51, 200, 319])
    problem = token_problem(scorer_of(lms()), allowed)
    assert problem.table.index(torch.tensor([[3, 4, 319], [0, 51, 318]])).tolist() == [[0, -1, 4], [-1, 2, -1]]
    assert set(problem.random_ids(200, problem.generator(0)).tolist()) == set(allowed.tolist())


def test_passes_are_counted_for_each_slot(lms):
    scorer = scorer_of(lms())
    ids, slots = random_prompts(4), torch.tensor([0, 2, 2, 0])
    scorer.scores(ids, slots)
    scorer.table(ids[:1], slots[1:2], scorer.bases(ids[:1], slots[1:2]), torch.tensor([0]))
    scorer.gradient(lms().embed(ids).float(), slots)
    assert scorer.take_passes().tolist() == [4, 0, 6]
    scorer.scan(random_prompts(3, 2 * LENGTH), torch.tensor([0, 1]), True)
    scorer.scan(random_prompts(3, 2 * LENGTH), torch.tensor([2]), False)
    assert scorer.take_passes().tolist() == [3, 3, 6]
    assert scorer.take_passes().tolist() == [0, 0, 0]


# ---- contexts and restarts ----

#: the module's context, one padded with it, one of another width, and one without a text before
MIXED = [
    Context("", "", (7, 300, 21), (), own=False),
    Context("", "", (11, 12), (200, 3, 3), own=True),
    Context("", "", (), (9,), own=True),
]


@pytest.mark.parametrize("fluency", FLUENCY)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "opt"])
def test_scores_in_contexts_of_several_widths_are_those_of_the_model(lms, architecture, fluency):
    lm = lms(architecture)
    scorer = scorer_of(lm, fluency=fluency, contexts=MIXED, restarts=2)
    base = random_prompts(6)
    ids, rows = variations(base, 50)
    slots = rows  # a base for each slot
    expected = torch.stack(
        [
            reference(lm, own.unsqueeze(0), MIXED[slot // 2].before_ids, MIXED[slot // 2].after_ids, fluency)[0]
            for own, slot in zip(ids, slots.tolist(), strict=True)
        ]
    )
    tolerance = 1e-4 if fluency else 3e-5
    bases = scorer.bases(base, torch.arange(6))
    own = expected[torch.arange(len(ids)), slots // 2]
    for varied in ((), (bases, rows)):
        assert (scorer.scores(ids, slots, *varied) - own).abs().max() <= tolerance
        found = scorer.table(ids, slots, *varied)
        mates = found.isfinite()
        # every context has one target here, and restarts are groups of their own
        assert mates.equal(slots.unsqueeze(1) == torch.arange(6))
        assert (found[mates] - own).abs().max() <= tolerance
    if not fluency:
        soft, _ = scorer.gradient(lm.embed(ids).float(), slots)
        assert (soft - own).abs().max() <= tolerance


# ---- objectives ----


@pytest.mark.parametrize(
    "objective",
    [
        ForwardKL(),
        ReverseKL(smoothing=0.01),
        JensenShannon(),
        WeightedSum([ForwardKL(), JensenShannon(), ReverseKL(0.1)], [0.3, 2.0, 1.0]),
    ],
    ids=lambda objective: objective.name,
)
def test_every_objective_is_its_divergence_of_what_the_model_gives(lms, objective):
    lm = lms("llama", torch.float64)
    context = Context("", "", *AROUND[3], own=False)
    slots = single_targets(["a", "b", "c"], [context] * TARGETS)
    scorer = LMScorer(lm, slots, targets().float(), LENGTH, objective, MicroBatch())
    ids = random_prompts(7)
    with torch.no_grad():
        whole = torch.tensor([[*AROUND[3][0], *row, *AROUND[3][1]] for row in ids.tolist()])
        q = lm.model(input_ids=whole).logits[:, -1].softmax(-1).numpy()
    p = targets().exp().numpy()

    def divergence(name, p, q, smoothing=0.0):
        if name == "kl":
            return scipy_entropy(p, q)
        if name == "js":
            return jensenshannon(p, q) ** 2
        return scipy_entropy(q, (1 - smoothing) * p + smoothing / len(p))

    def expected(p, q):
        if not isinstance(objective, WeightedSum):
            return divergence(objective.name, p, q, 0.01)
        return 0.3 * divergence("kl", p, q) + 2 * divergence("js", p, q) + divergence("reverse_kl", p, q, 0.1)

    wanted = torch.tensor([[expected(own, given) for own in p] for given in q])
    own = torch.arange(7) % TARGETS
    assert (table(scorer, ids) - wanted).abs().max() <= 2e-5
    assert (scorer.scores(ids, own) - wanted[torch.arange(7), own]).abs().max() <= 2e-5
    # and the gradient is that of finite differences
    embeddings = lm.embed(ids).float()
    _, gradient = scorer.gradient(embeddings, own)
    direction = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-3
    forth, back = (scorer.scores(embeddings + sign * step * direction, own) for sign in (1, -1))
    slope = (gradient * direction).sum((1, 2)).double()
    assert torch.allclose((forth - back) / (2 * step), slope, rtol=2e-2, atol=2e-2 * float(slope.abs().mean()))
