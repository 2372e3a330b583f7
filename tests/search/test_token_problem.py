"""Scores and gradients of token prompts, against transformers and finite differences."""

import pytest
import torch
import transformers

from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM
from lit_prompt.search import MicroBatch, TokenProblem, token_problem
from tests.conftest import ARCHITECTURES, VOCABULARY

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


def problem_of(lm, before=(), after=(), fluency=0.0, length=LENGTH, allowed=None):
    log_p = targets()
    entropy = -(log_p.exp() * log_p.clamp_min(-1e9)).sum(-1)
    names = [f"t{i}" for i in range(TARGETS)]
    allowed = torch.arange(1, VOCABULARY) if allowed is None else allowed
    return TokenProblem(
        lm, before, after, names, log_p.float(), entropy, length, allowed, MicroBatch(), seed=0, fluency=fluency
    )


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
    problem = problem_of(lm, before, after, fluency)
    base = random_prompts(4)
    ids, rows = variations(base)
    own = torch.arange(len(ids)) % TARGETS
    expected = reference(lm, ids, before, after, fluency)
    tolerance = 1e-4 if fluency else 2e-5
    bases = problem.bases(base)
    assert bases.cache is not None
    assert (bases.log_probs is not None) == bool(fluency)
    for scores in (problem.scores(ids), problem.scores(ids, None, bases, rows)):
        assert scores.shape == (len(ids), TARGETS)
        assert (scores - expected).abs().max() <= tolerance
    for scores in (problem.scores(ids, own), problem.scores(ids, own, bases, rows)):
        assert scores.shape == (len(ids),)
        assert (scores - expected[torch.arange(len(ids)), own]).abs().max() <= tolerance


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_with_cached_beginnings_are_the_full_ones(lms, architecture):
    problem = problem_of(lms(architecture), *AROUND[1])
    base = random_prompts(4)
    ids, rows = variations(base)
    assert (problem.scores(ids, None, problem.bases(base), rows) - problem.scores(ids)).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_scores_where_nothing_is_cached(lms, fluency, monkeypatch):
    monkeypatch.setattr(FrozenLM, "caches_prefixes", lambda self, positions: False)
    problem = problem_of(lms(), *AROUND[3], fluency)
    base = random_prompts(4)
    ids, rows = variations(base)
    bases = problem.bases(base)
    assert bases.cache is None
    found = problem.scores(ids, None, bases, rows)
    assert (found - reference(lms(), ids, *AROUND[3], fluency)).abs().max() <= 1e-4


@pytest.mark.parametrize("fluency", FLUENCY)
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_prompts_of_a_single_token(lms, before, after, fluency):
    problem = problem_of(lms(), before, after, fluency, length=1)
    ids = random_prompts(6, 1)
    expected = reference(lms(), ids, before, after, fluency)
    base, rows = ids[:2], torch.tensor([0, 1, 0, 1, 0, 1])
    for scores in (problem.scores(ids), problem.scores(ids, None, problem.bases(base), rows)):
        assert (scores - expected).abs().max() <= 1e-4
    assert problem.swap_gradient(ids, torch.zeros(6, dtype=torch.long)).shape == (6, 1, VOCABULARY - 1)


def test_no_prompt_has_no_score(lms):
    problem = problem_of(lms())
    nothing, no_rows = torch.zeros(0, LENGTH, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    assert problem.scores(nothing).shape == (0, TARGETS)
    assert problem.scores(nothing, None, problem.bases(random_prompts(2)), no_rows).shape == (0, TARGETS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_lm_of_another_dtype(lms, dtype):
    lm = lms("llama", dtype)
    problem = problem_of(lm, *AROUND[1], 0.5)
    base = random_prompts(3)
    ids, rows = variations(base)
    found = problem.scores(ids, None, problem.bases(base), rows)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-5 if dtype == torch.float64 else 0.5
    assert (found - reference(lm, ids, *AROUND[1], 0.5)).abs().max() <= tolerance


# ---- gradients ----


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_gradient_is_that_of_finite_differences(lms, architecture, before, after):
    lm = lms(architecture, torch.float64)
    problem = problem_of(lm, before, after)
    own = torch.tensor([2, 0, 1, 0])
    embeddings = lm.embed(random_prompts(4)).float()
    kls, gradient = problem.embedding_gradient(embeddings, own)
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
    problem = problem_of(lm, *AROUND[1], allowed=allowed)
    ids, own = random_prompts(2), torch.tensor([1, 0])
    change = problem.swap_gradient(ids, own)
    assert change.shape == (2, LENGTH, 5)
    table = lm.embed(torch.arange(VOCABULARY))
    step = 1e-3
    for place in range(LENGTH):
        for choice, token in enumerate(allowed.tolist()):
            kls = []
            for sign in (1, -1):
                x = table[ids].clone()
                x[:, place] += sign * step * (table[token] - x[:, place])
                kls.append(problem.embedding_gradient(x.float(), own)[0])
            slope = (kls[0] - kls[1]) / (2 * step)
            # the table gives it up to the same constant at a position
            other = table[ids[:, place]].float() * problem.embedding_gradient(table[ids].float(), own)[1][:, place]
            expected = change[:, place, choice] - other.sum(-1)
            assert torch.allclose(slope.float(), expected, rtol=2e-2, atol=2e-2)


# ---- parts ----


@pytest.mark.parametrize("fluency", FLUENCY)
def test_parts_change_nothing(lms, fluency, monkeypatch):
    lm = lms()
    base = random_prompts(4)
    ids, rows = variations(base, 60)
    own = torch.arange(len(ids)) % TARGETS

    def everything(problem):
        bases = problem.bases(base)
        kls, gradient = problem.embedding_gradient(lm.embed(ids).float(), own)
        found = [problem.scores(ids), problem.scores(ids, None, bases, rows), problem.scores(ids, own, bases, rows)]
        return [*found, problem.scan(random_prompts(6, 4 * LENGTH)), kls, gradient]

    problem = problem_of(lm, (4, 8), (), fluency)
    whole = everything(problem)
    for size in (1, 7, 16):
        problem.micro_batch.size = size
        for found, expected in zip(everything(problem), whole, strict=True):
            assert (found - expected).abs().max() <= 1e-5
    problem.micro_batch.size = None
    monkeypatch.setattr(token_problem, "_BYTES_PER_PART", 1)
    for found, expected in zip(everything(problem), whole, strict=True):
        assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_out_of_memory_halves_and_goes_on(lms, fluency, monkeypatch, caplog):
    lm = lms()
    base = random_prompts(12)
    ids, rows = variations(base, 60)
    problem = problem_of(lm, (4,), (), fluency)
    expected = problem.scores(ids)
    gradient = problem.embedding_gradient(lm.embed(ids).float(), rows % TARGETS)[1]
    inner = FrozenLM._features

    def small_device(self, inputs_embeds, *args, **kwargs):
        # the LM pads to 16 rows in all
        if len(inputs_embeds) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, inputs_embeds, *args, **kwargs)

    monkeypatch.setattr(FrozenLM, "_features", small_device)
    assert (problem.scores(ids) - expected).abs().max() <= 1e-5
    assert problem.micro_batch.size == 15
    assert "out of memory with 60 prompts at once; going on with 30 at once" in caplog.text
    assert (problem.embedding_gradient(lm.embed(ids).float(), rows % TARGETS)[1] - gradient).abs().max() <= 1e-5
    bases = problem.bases(base)
    assert (problem.scores(ids, None, bases, rows) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("fluency", FLUENCY)
def test_out_of_memory_while_bases_are_prepared(lms, fluency, monkeypatch):
    problem = problem_of(lms(), (4,), (), fluency)
    base = random_prompts(12)
    ids, rows = variations(base, 60)
    expected = problem.scores(ids)
    inner = FrozenLM._features

    def small_device(self, inputs_embeds, *args, **kwargs):
        if len(inputs_embeds) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, inputs_embeds, *args, **kwargs)

    monkeypatch.setattr(FrozenLM, "_features", small_device)
    bases = problem.bases(base)
    assert problem.micro_batch.size == 3
    monkeypatch.setattr(FrozenLM, "_features", inner)
    assert (problem.scores(ids, None, bases, rows) - expected).abs().max() <= 1e-5


def test_out_of_memory_with_a_single_prompt_is_one_line(lms, monkeypatch):
    problem = problem_of(lms())

    def no_room(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FrozenLM, "_features", no_room)
    for call in (problem.scores, problem.scan, problem.bases):
        with pytest.raises(InputError, match="out of memory with a single prompt"):
            call(random_prompts(3))


# ---- the rest ----


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("before", [(), (7, 300, 21)])
def test_scan_scores_every_end_of_a_sequence(lms, architecture, before):
    lm = lms(architecture)
    sequences = random_prompts(3, 12)
    kl = problem_of(lm, before).scan(sequences)
    assert kl.shape == (3, 12 - LENGTH + 1, TARGETS)
    for end in range(kl.shape[1]):
        expected = reference(lm, sequences[:, : LENGTH + end], before)
        assert (kl[:, end] - expected).abs().max() <= 2e-5


def test_scan_of_whole_prompts_before_a_text_is_their_score(lms):
    problem = problem_of(lms(), *AROUND[3])
    ids = random_prompts(6)
    assert (problem.scan(ids)[:, 0] - problem.scores(ids)).abs().max() <= 1e-6


def test_random_numbers_follow_from_target_and_name(lms):
    problem, other = problem_of(lms()), problem_of(lms())
    assert torch.equal(problem.random_ids(20, problem.generator(1, "x")), other.random_ids(20, other.generator(1, "x")))
    assert not torch.equal(
        problem.random_ids(20, problem.generator(1, "x")), problem.random_ids(20, problem.generator(2, "x"))
    )


def test_places_and_random_ids_are_among_the_allowed(lms):
    allowed = torch.tensor([3, 50, 51, 200, 319])
    problem = problem_of(lms(), allowed=allowed)
    assert problem.places(torch.tensor([[3, 4, 319], [0, 51, 318]])).tolist() == [[0, -1, 4], [-1, 2, -1]]
    assert set(problem.random_ids(200, problem.generator(0)).tolist()) == set(allowed.tolist())


def test_passes_are_counted_for_each_target(lms):
    problem = problem_of(lms())
    problem.count(torch.tensor([0, 2]), 5)
    problem.count(torch.tensor([2]), torch.tensor([7]))
    assert problem.forward_passes.tolist() == [5, 0, 12]
