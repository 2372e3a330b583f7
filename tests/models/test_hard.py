"""Hard prompts through a trainer: what is found, why it stopped, and that every number is the text's own."""

from dataclasses import replace

import pytest
import scipy.stats
import torch
import transformers

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.families import EntropyMatched, OneHot
from lit_prompt.errors import InputError
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary
from lit_prompt.search import GCG, SharedSearch, StopReason, TokenStart

SEARCHERS = {
    "shared": lambda: SharedSearch(8, 32),
    "alone": lambda: SharedSearch(8, 32, share=False),
    "gcg": lambda: GCG(32, 32),
}
ALONE = ["alone", "gcg"]
#: before and after of six targets: the module's, each alone, both, none at all
TEXTS = [(None, None), ("Yes, said the fox", None), (None, " and no,"), ("one, two,", " three"), ("", ""), (None, None)]
MODULE = {"before": "The king", "after": " had"}
SMALL_BANK = TokenStart(random_sequences=4, sampled_texts=0, drawn_sequences=2)
GRID = [EntropyMatched([1.0, 3.0, 5.0], 2)]


@pytest.fixture
def hard(search_hard):
    """A short search from a small bank."""

    def run(lm, targets, *args, **settings):
        defaults = {"length": 4, "steps": 6, "searcher": SharedSearch(8, 32), "start": SMALL_BANK}
        return search_hard(lm, targets, *args, **defaults | settings)

    return run


@pytest.fixture
def contexts_set(tmp_path):
    """Saves random targets, one for each pair of texts before and after the prompt."""

    def write(lm, order=(0, 1, 2, 3, 4, 5), name="set"):
        vocabulary = Vocabulary.load(str(lm), LMOptions())
        targets = []
        for i, (before, after) in enumerate(TEXTS):
            logits = 2 * torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
            targets.append(replace(Target.from_logits(f"t{i}", "random", logits), before=before, after=after))
        chosen = [targets[i] for i in order]
        return TargetSet.write(tmp_path / name, chosen, vocabulary.size, vocabulary.fingerprint).folder

    return write


def results(module):
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(len(module.data.targets))), module.results)
    return columns


# ---- numbers ----


@pytest.mark.parametrize(
    ("architecture", "name"), [("llama", "shared"), ("gpt2", "gcg"), ("gemma2", "alone"), ("opt", "shared")]
)
def test_every_number_is_that_of_the_pasted_text(hard, contexts_set, make_lm, architecture, name):
    folder = make_lm(architecture)
    module = hard(folder, contexts_set(folder), 4, searcher=SEARCHERS[name](), restarts=2, **MODULE)
    batch = module.data.targets.batch(range(len(TEXTS)))
    columns, _ = module.evaluator.columns(batch, module.results)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def kl_after(ids, log_p):
        with torch.no_grad():
            q = plain(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        return scipy.stats.entropy(log_p.double().exp().numpy(), q.numpy())

    for i, texts in enumerate(TEXTS):
        before, after = (MODULE[k] if own is None else own for own, k in zip(texts, MODULE, strict=True))
        around = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after)]
        best = module.evaluator.chosen[i]
        kls = [kl_after(around[0] + ids + around[1], batch.log_probs[i]) for ids in module.results.prompts[i].tolist()]
        assert module.results.kl[i].tolist() == pytest.approx(kls, abs=1e-5)
        assert columns["kl"][i] == pytest.approx(min(kls), abs=1e-5)
        assert best == kls.index(min(kls))
        text = before + columns["prompt_text"][i] + after
        pasted = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert pasted == around[0] + module.results.prompts[i, best].tolist() + around[1]
        assert columns["kl_text"][i] == pytest.approx(columns["kl"][i], abs=1e-5)
    assert columns["method"] == [module.searcher.method] * len(TEXTS)
    assert columns["prompt_length"] == [4] * len(TEXTS)


def test_unreadable_prompts_are_told_by_their_text(hard, tiny_lm):
    module = hard(tiny_lm, GRID, readable=False, steps=12, tokens=AllowedTokens("any"))
    readable = results(hard(tiny_lm, GRID, steps=12, tokens=AllowedTokens("any")))
    columns = results(module)
    different = [abs(a - b) > 1e-3 for a, b in zip(columns["kl"], columns["kl_text"], strict=True)]
    assert any(different)
    again = [module.data.vocabulary.encode(text) for text in columns["prompt_text"]]
    same = [ids == own for ids, own in zip(again, module.results.prompts[:, 0].tolist(), strict=True)]
    assert [not ok for ok in same] == different
    assert readable["kl_text"] == pytest.approx(readable["kl"], abs=1e-5)


def test_a_text_that_outgrows_the_lm_has_no_kl(hard, make_lm):
    folder = make_lm("gpt2")
    # bytes that are no text: each is shown as a replacement character, of three tokens
    halves = AllowedTokens(allow=list(range(150, 250)))
    module = hard(folder, [OneHot(count=2)], length=30, steps=1, readable=False, tokens=halves)
    columns = results(module)
    assert all(kl is not None for kl in columns["kl"])
    long = [len(module.data.vocabulary.encode(text)) > 64 for text in columns["prompt_text"]]
    assert any(long)
    assert [kl is None for kl in columns["kl_text"]] == long


def test_the_search_lowers_the_kl_and_more_steps_never_hurt(hard, tiny_lm):
    for make in SEARCHERS.values():
        kl = [hard(tiny_lm, GRID, searcher=make(), steps=steps, seed=1).results.kl for steps in (1, 5, 15)]
        assert (kl[2] <= kl[1]).all()
        assert (kl[1] <= kl[0]).all()
        assert kl[2].mean() < kl[0].mean()


def test_prompts_hold_allowed_tokens_alone(hard, tiny_lm):
    ascii_ = hard(tiny_lm, GRID, tokens=AllowedTokens("ascii"))
    assert all(text.isascii() and text.isprintable() for text in results(ascii_)["prompt_text"])
    few = hard(tiny_lm, GRID, searcher=GCG(16), tokens=AllowedTokens(allow=[" the", "a", "b", "c"]))
    assert set(few.results.prompts.flatten().tolist()) <= set(few.allowed.tolist())
    everything = hard(tiny_lm, GRID, steps=12)
    assert not set(everything.results.prompts.flatten().tolist()) & set(everything.data.vocabulary.special_ids)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", SEARCHERS)
def test_an_lm_of_any_dtype(hard, tiny_lm, dtype, name):
    module = hard(tiny_lm, GRID, searcher=SEARCHERS[name](), lm_options=LMOptions(dtype=dtype))
    tolerance = 1e-5 if dtype == "float64" else 0.1
    assert results(module)["kl"] == pytest.approx(module.results.kl[:, 0].tolist(), abs=tolerance)


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("name", SEARCHERS)
def test_the_shortest_prompts(hard, tiny_lm, length, name):
    module = hard(tiny_lm, GRID, searcher=SEARCHERS[name](), length=length, fluency=0.1)
    assert module.results.prompts.shape == (6, 1, length)
    assert module.results.kl.isfinite().all()


# ---- independence ----


@pytest.mark.parametrize("name", ALONE)
def test_chunks_and_order_do_not_change_a_result(hard, contexts_set, tiny_lm, name):
    saved = contexts_set(tiny_lm)
    settings = {"searcher": SEARCHERS[name](), "restarts": 2, **MODULE}
    together = hard(tiny_lm, saved, 64, **settings).results
    assert together.kl.isfinite().all()
    other = hard(tiny_lm, saved, 1, **settings).results
    assert torch.equal(other.prompts, together.prompts)
    assert (other.kl - together.kl).abs().max() <= 1e-5
    assert torch.equal(other.reason, together.reason)
    assert torch.equal(other.forward_passes, together.forward_passes)
    order = [5, 0, 3, 1, 4, 2]
    shuffled = hard(tiny_lm, contexts_set(tiny_lm, order, "shuffled"), 4, **settings).results
    assert torch.equal(shuffled.prompts, together.prompts[order])
    assert (shuffled.kl - together.kl[order]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ALONE)
def test_a_neighbour_that_stops_does_not_change_a_result(hard, tiny_lm, name):
    settings = {"searcher": SEARCHERS[name](), "patience": 2, "steps": 12}
    together, alone = (hard(tiny_lm, GRID, chunk, **settings).results for chunk in (64, 1))
    assert len(set(together.steps.tolist())) > 1
    assert torch.equal(together.prompts, alone.prompts)
    assert torch.equal(together.steps, alone.steps)
    assert torch.equal(together.reason, alone.reason)
    assert torch.equal(together.forward_passes, alone.forward_passes)


def test_sharing_lets_targets_profit(hard, tiny_lm):
    families = [EntropyMatched([4.0, 5.0], 8)]
    shared, alone = (
        hard(tiny_lm, families, 64, searcher=SEARCHERS[n](), steps=10).results for n in ("shared", "alone")
    )
    assert shared.kl.mean() < alone.kl.mean()


@pytest.mark.parametrize("name", SEARCHERS)
def test_the_seed_decides(hard, tiny_lm, name):
    first, again, other = (hard(tiny_lm, GRID, searcher=SEARCHERS[name](), seed=s).results for s in (3, 3, 4))
    assert torch.equal(first.kl, again.kl)
    assert torch.equal(first.prompts, again.prompts)
    assert not torch.equal(first.prompts, other.prompts)


def test_restarts_search_from_different_seeds(hard, tiny_lm):
    module = hard(tiny_lm, GRID, 4, restarts=3)
    columns, kl = results(module), module.results.kl.double()
    assert (kl.amax(1) > kl.amin(1)).any()
    assert columns["kl"] == pytest.approx(kl.amin(1).tolist(), abs=1e-5)
    assert columns["kl_worst_restart"] == pytest.approx(kl.amax(1).tolist(), abs=1e-5)
    single = hard(tiny_lm, GRID, 4).results
    assert (module.results.forward_passes > 2 * single.forward_passes).all()


# ---- budgets ----


def test_steps_are_the_budget_by_default(hard, tiny_lm):
    bank = hard(tiny_lm, GRID, kl_tolerance=0.0).results
    assert (bank.reason == StopReason.STEPS).all()
    assert (bank.steps == 6).all()


def test_forward_passes_end_a_search(hard, tiny_lm):
    bank = hard(tiny_lm, GRID, searcher=GCG(32), start=TokenStart("random"), max_forward_passes=80, steps=20).results
    assert (bank.reason == StopReason.FORWARD_PASSES).all()
    assert bank.forward_passes.tolist() == [1 + 3 * 34] * 6
    assert bank.steps.tolist() == [3] * 6


def test_a_budget_that_the_start_uses_up_leaves_the_start(hard, tiny_lm):
    module = hard(tiny_lm, GRID, 4, max_forward_passes=1)
    assert (module.results.reason == StopReason.FORWARD_PASSES).all()
    assert (module.results.steps == 0).all()
    assert module.results.kl.isfinite().all()
    assert results(module)["stop_reason"] == ["forward_passes"] * 6


def test_a_kl_that_is_low_enough_ends_a_search(hard, tiny_lm):
    bank = hard(tiny_lm, GRID, kl_tolerance=2.0, steps=30).results
    done = bank.reason == StopReason.KL_TOLERANCE
    assert done.any()
    assert torch.equal(done, bank.kl <= 2.0)
    assert (bank.steps[done[:, 0]] < 30).all()


def test_patience_and_exhaustion_end_a_search(hard, tiny_lm):
    bank = hard(tiny_lm, GRID, patience=2, steps=40).results
    assert (bank.reason == StopReason.PATIENCE).any()
    assert (bank.steps < 40).any()


def test_seconds_end_a_search(hard, tiny_lm):
    bank = hard(tiny_lm, GRID, max_seconds=1e-6, steps=50).results
    assert (bank.reason == StopReason.SECONDS).all()
    assert (bank.seconds > 0).all()


def test_all_done_ends_the_chunk(hard, tiny_lm):
    module = hard(tiny_lm, GRID, 2, kl_tolerance=100.0, steps=50)
    assert (module.results.steps == 0).all()
    assert (module.results.reason == StopReason.KL_TOLERANCE).all()
    assert module.results.kl.isfinite().all()


def test_unfinished_runs_evaluate_what_they_have(hard, tiny_lm):
    module = hard(tiny_lm, GRID, 3, max_epochs=1)
    columns = results(module)
    assert [kl is None for kl in columns["kl"]] == [False] * 3 + [True] * 3
    assert [text is None for text in columns["prompt_text"]] == [False] * 3 + [True] * 3
    assert [kl is None for kl in columns["kl_text"]] == [False] * 3 + [True] * 3


# ---- starts and fluency ----


@pytest.mark.parametrize(
    "start", [TokenStart("random"), TokenStart("text", text=" the king"), replace(SMALL_BANK, sampled_texts=4)]
)
def test_every_start(hard, tiny_lm, start):
    module = hard(tiny_lm, GRID, start=start)
    assert module.results.kl.isfinite().all()
    assert results(module)["kl_text"] == pytest.approx(results(module)["kl"], abs=1e-5)


def test_fluency_lowers_the_prompts_own_surprise(hard, tiny_lm):
    def surprise(module):
        ids = module.results.prompts[:, 0]
        with torch.no_grad():
            log_q = module.lm.model(torch.cat([before.expand(len(ids), -1), ids], 1)).logits.log_softmax(-1)
        return -log_q[:, len(before[0]) - 1 : -1].gather(2, ids.unsqueeze(2)).mean((1, 2))

    before = torch.tensor([Vocabulary.load(str(tiny_lm), LMOptions()).encode("The king")])
    plain, fluent = (hard(tiny_lm, GRID, steps=15, before="The king", fluency=f) for f in (0.0, 1.0))
    assert (surprise(fluent) < surprise(plain)).float().mean() >= 5 / 6
    assert surprise(fluent).mean() < surprise(plain).mean() - 1.0
    kl = torch.tensor(results(fluent)["kl"])
    assert (fluent.results.kl[:, 0] - (kl + surprise(fluent))).abs().max() <= 1e-4


# ---- trouble ----


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(hard, tiny_lm, monkeypatch, caplog):
    normal = hard(tiny_lm, GRID).results
    inner = FrozenLM.features

    def small_device(self, inputs_embeds, *args, **kwargs):
        if inputs_embeds.shape[0] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, inputs_embeds, *args, **kwargs)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    bank = hard(tiny_lm, GRID).results
    assert torch.equal(bank.prompts, normal.prompts)
    assert (bank.kl - normal.kl).abs().max() <= 1e-5
    assert torch.equal(bank.forward_passes, normal.forward_passes)
    assert "out of memory with" in caplog.text


@pytest.mark.parametrize("name", SEARCHERS)
def test_an_lm_that_gives_nan_only(hard, tiny_lm, monkeypatch, name):
    monkeypatch.setattr(FrozenLM, "_head_is_linear", lambda self, probe, logits: True)
    for method in ("features", "features_after"):
        inner = getattr(FrozenLM, method)
        broken = lambda self, *args, inner=inner, **kwargs: inner(self, *args, **kwargs) * torch.nan  # noqa: E731
        monkeypatch.setattr(FrozenLM, method, broken)
    with pytest.raises(InputError, match=r"no search gave a finite KL: .*; try --lm_options\.dtype float32"):
        hard(tiny_lm, GRID, searcher=SEARCHERS[name](), steps=2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"length": 0}, "model.length is 0; it must be at least 1"),
        ({"restarts": 0}, "model.restarts is 0"),
        ({"patience": 0}, "model.patience is 0"),
        ({"max_forward_passes": 0}, "model.max_forward_passes is 0"),
        ({"max_seconds": 0.0}, "model.max_seconds is 0.0; it must be positive"),
        ({"max_seconds": float("nan")}, "model.max_seconds is nan"),
        ({"fluency": -1.0}, "model.fluency is -1.0"),
        ({"fluency": float("nan")}, "model.fluency is nan"),
        ({"length": 65}, "the prompt is longer than the LM's context"),
        ({"length": 60, "before": "Once upon a time"}, "the prompt is longer than the LM's context"),
        ({"tokens": AllowedTokens(allow=[])}, "model.tokens leaves no token"),
        ({"tokens": AllowedTokens(allow=[999])}, "model.tokens.allow: token id 999"),
        ({"start": TokenStart("text", text="")}, "model.start.text must hold"),
        ({"start": TokenStart("text", text="a<|endoftext|>")}, "model.start.text holds a token that model.tokens"),
    ],
)
def test_wrong_settings(hard, tiny_lm, settings, expected):
    with pytest.raises(InputError) as raised:
        hard(tiny_lm, [OneHot(count=1)], **settings)
    assert expected in str(raised.value)


def test_a_module_fits_once(hard, tiny_lm):
    module = hard(tiny_lm, [OneHot(count=1)])
    with pytest.raises(InputError, match="this module has searched before"):
        module.trainer.fit(module, datamodule=module.data)


def test_a_single_allowed_token(hard, tiny_lm):
    module = hard(tiny_lm, [OneHot(count=2)], length=3, tokens=AllowedTokens(allow=[";"]))
    assert results(module)["prompt_text"] == [";;;", ";;;"]


def test_screened_prompts_have_the_kl_of_the_lm_itself(hard, tiny_lm):
    module = hard(tiny_lm, GRID, length=3, steps=3, screening="always")
    assert module.results.kl[:, 0].tolist() == pytest.approx(results(module)["kl"], abs=1e-5)
