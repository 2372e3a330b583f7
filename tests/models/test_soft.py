import numpy as np
import pytest
import scipy.stats
import torch

from lit_prompt.data.families import EntropyMatched, FromFile, OneHot, UniformSubset
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions
from lit_prompt.models import PromptInit
from lit_prompt.search import StopReason
from tests.conftest import EMBEDDED_LLAMA

GRID = [0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def adam(lr=0.1):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def test_chunk_size_does_not_change_a_result(search):
    families = [EntropyMatched(GRID, 1)]
    banks = [search(EMBEDDED_LLAMA, families, size, steps=100, optimizer=adam()).results for size in (1, 7, 64)]
    assert banks[0].kl.isfinite().all()
    for other in banks[1:]:
        assert (other.kl - banks[0].kl).abs().max() <= 1e-4
        assert torch.equal(other.steps, banks[0].steps)


def test_neighbours_and_order_do_not_change_a_result(search, tiny_lm):
    alone = search(tiny_lm, [EntropyMatched([3.0], 2)], steps=100).results
    others = [EntropyMatched([3.0], 2), OneHot(count=5), EntropyMatched([1.0, 4.0], 3, name="more")]
    first = search(tiny_lm, others, steps=100).results
    last = search(tiny_lm, others[::-1], steps=100).results
    assert (first.kl[:2] - alone.kl).abs().max() <= 1e-4
    assert (last.kl[-2:] - alone.kl).abs().max() <= 1e-4


def test_patience_of_a_neighbour_does_not_change_a_result(search, tiny_lm):
    families = [OneHot(count=3), EntropyMatched([2.0, 4.0, 5.0], 1)]
    together = search(tiny_lm, families, 64, steps=200, patience=5).results
    alone = search(tiny_lm, families, 1, steps=200, patience=5).results
    assert len(set(together.steps.tolist())) > 1
    assert torch.equal(together.steps, alone.steps)
    assert torch.equal(together.reason, alone.reason)
    assert (together.kl - alone.kl).abs().max() <= 1e-4


def test_kl_is_what_scipy_finds_from_the_saved_prompts(search, make_lm):
    for architecture in ("llama", "gpt2", "gemma2", "phi"):
        module = search(
            make_lm(architecture), [EntropyMatched(4, 1), OneHot(count=2)], steps=30, before="Once", after=" and"
        )
        batch = module.data.targets.batch(range(6))
        columns, _ = module.evaluator.columns(batch, module.results)
        with torch.no_grad():
            for i in range(6):
                prompt = module.results.prompts[i, 0]
                embed = module.lm.model.get_input_embeddings()
                context = [embed(torch.tensor(module.data.vocabulary.encode(text))) for text in ("Once", " and")]
                whole = torch.cat([context[0], prompt, context[1]]).unsqueeze(0)
                q = module.lm.model(inputs_embeds=whole).logits[0, -1].double().softmax(-1)
                reference = scipy.stats.entropy(batch.log_probs[i].double().exp().numpy(), q.numpy())
                assert columns["kl"][i] == pytest.approx(reference, abs=1e-5)
                assert float(module.results.kl[i, 0]) == pytest.approx(reference, abs=1e-4)


def test_search_lowers_the_kl_and_keeps_the_best(search, tiny_lm):
    start = search(tiny_lm, [EntropyMatched(5, 2)], steps=1).results.kl
    end = search(tiny_lm, [EntropyMatched(5, 2)], steps=150).results.kl
    assert (end < start).all()
    assert end.median() < 0.7 * start.median()
    short = search(tiny_lm, [EntropyMatched(5, 2)], steps=75).results.kl
    assert (end <= short).all()


def test_soft_prompt_of_token_embeddings_equals_the_tokens(search, tiny_lm):
    text = "a little girl"
    module = search(
        tiny_lm, [OneHot(count=1)], steps=1, length=4, init=PromptInit("text", text=text), before="Once upon"
    )
    ids = module.data.vocabulary.encode(text)
    ids = (ids * 4)[:4]
    context = module.data.vocabulary.encode("Once upon")
    with torch.no_grad():
        reference = module.lm.model(input_ids=torch.tensor([context + ids])).logits[0, -1].log_softmax(-1)
    _, log_q = module.evaluator.columns(module.data.targets.batch([0]), module.results)
    assert torch.allclose(log_q[0].float(), reference, atol=1e-5)


def test_vocabulary_start_is_made_of_token_embeddings(search, tiny_lm):
    module = search(tiny_lm, [OneHot(count=3)], steps=1, init=PromptInit("vocab"))
    rows = module.lm.model.get_input_embeddings().weight[module.data.vocabulary.ordinary_ids]
    distance = torch.cdist(
        module.results.prompts.flatten(0, 2), rows, compute_mode="donot_use_mm_for_euclid_dist"
    ).amin(1)
    assert distance.max() < 1e-5


def test_matched_scale_is_that_of_the_embeddings(search, tiny_lm):
    module = search(tiny_lm, [OneHot(count=16)], steps=1, init=PromptInit("normal", scale=None))
    rows = module.lm.model.get_input_embeddings().weight[module.data.vocabulary.ordinary_ids]
    assert float(module.results.prompts.std()) == pytest.approx(float(rows.std()), rel=0.05)


def test_max_norm_holds_for_every_embedding(search, tiny_lm):
    module = search(tiny_lm, [EntropyMatched(4, 2)], steps=40, max_norm=1.5)
    norms = module.results.prompts.norm(dim=-1)
    assert norms.max() <= 1.5 + 1e-5
    assert (norms > 1.49).any()


def test_kl_tolerance_stops_and_is_kept(search, tiny_lm):
    module = search(tiny_lm, [OneHot(count=4)], steps=400, kl_tolerance=0.9)
    done = module.results.reason == StopReason.KL_TOLERANCE
    assert done.all()
    assert (module.results.kl <= 0.9).all()
    assert (module.results.steps < 400).all()


def test_the_best_restart_is_reported_with_its_spread(search, tiny_lm):
    module = search(tiny_lm, [EntropyMatched(3, 2)], 4, steps=40, restarts=3)
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(6)), module.results)
    kl = module.results.kl.double().numpy()
    assert (np.ptp(kl, axis=1) > 0).all()
    np.testing.assert_allclose(columns["kl"], kl.min(1), atol=1e-4)
    np.testing.assert_allclose(columns["kl_worst_restart"], kl.max(1), atol=1e-4)
    np.testing.assert_allclose(columns["kl_restart_std"], kl.std(1), atol=1e-4)
    single = search(tiny_lm, [EntropyMatched(3, 2)], 4, steps=40).results
    assert (module.results.kl[:, 0] - single.kl[:, 0]).abs().max() <= 1e-4
    assert columns["forward_passes"] == [120] * 6


ELEMENTWISE = ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Adafactor", "Muon"])
def test_every_optimizer_keeps_targets_apart(search, tiny_lm, name):
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    optimizer = lambda parameters: getattr(torch.optim, name)(parameters, lr=0.05)  # noqa: E731
    families = [EntropyMatched([1.0, 3.0, 5.0], 1)]
    start = search(tiny_lm, families, steps=1, optimizer=optimizer).results.kl
    together = search(tiny_lm, families, 3, steps=25, optimizer=optimizer).results.kl
    alone = search(tiny_lm, families, 1, steps=25, optimizer=optimizer).results.kl
    assert (together < start).all()
    assert (together - alone).abs().max() <= 1e-4


def test_lbfgs_works_one_target_at_a_time_and_is_refused_otherwise(search, tiny_lm):
    families = [EntropyMatched([1.0, 3.0], 1)]
    optimizer = lambda parameters: torch.optim.LBFGS(parameters, lr=0.5, max_iter=5)  # noqa: E731
    bank = search(tiny_lm, families, 1, steps=10, optimizer=optimizer).results
    assert (bank.forward_passes > bank.steps).all()
    assert (bank.kl < search(tiny_lm, families, 1, steps=1).results.kl).all()
    done = search(tiny_lm, families, 1, steps=10, optimizer=optimizer, kl_tolerance=5.0).results
    assert (done.reason == StopReason.KL_TOLERANCE).all()
    with pytest.raises(InputError, match="LBFGS makes one decision for a whole chunk"):
        search(tiny_lm, families, 2, steps=2, optimizer=optimizer)


def test_sparse_optimizers_are_refused(search, tiny_lm):
    with pytest.raises(InputError, match="SparseAdam takes sparse gradients"):
        search(tiny_lm, [OneHot(count=1)], steps=2, optimizer=torch.optim.SparseAdam)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 25),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=25),
    ],
)
def test_every_chunk_begins_its_schedule_anew(search, tiny_lm, scheduler):
    families = [EntropyMatched([1.0, 3.0, 5.0], 1)]
    together = search(tiny_lm, families, 3, steps=25, scheduler=scheduler).results.kl
    alone = search(tiny_lm, families, 1, steps=25, scheduler=scheduler).results.kl
    constant = search(tiny_lm, families, 3, steps=25).results.kl
    assert (together - alone).abs().max() <= 1e-4
    assert (together - constant).abs().max() > 1e-3


def test_plateau_scheduler_is_stepped_with_the_kl(search, tiny_lm):
    scheduler = lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)  # noqa: E731
    module = search(tiny_lm, [EntropyMatched([3.0], 1)], 1, steps=60, scheduler=scheduler)
    assert module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"] < 0.1
    with pytest.raises(InputError, match="ReduceLROnPlateau makes one decision"):
        search(tiny_lm, [EntropyMatched([3.0], 2)], 2, steps=2, scheduler=scheduler)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(search, tiny_lm, monkeypatch, caplog):
    families = [EntropyMatched(5, 2)]
    normal = search(tiny_lm, families, steps=20).results
    features = FrozenLM.features

    def small_device(self, inputs_embeds, *args):
        if inputs_embeds.shape[0] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, inputs_embeds, *args)

    monkeypatch.setattr(FrozenLM, "features", small_device)
    module = search(tiny_lm, families, steps=20)
    assert (module.results.kl - normal.kl).abs().max() <= 1e-4
    assert torch.equal(module.results.forward_passes, normal.forward_passes)
    said = [record.message for record in caplog.records if "out of memory" in record.message]
    assert said == [
        "out of memory with 10 prompts at once; going on with 5 at once",
        "out of memory with 5 prompts at once; going on with 2 at once",
    ]


def test_a_nan_ends_one_search_and_spares_the_others(search, tiny_lm, monkeypatch):
    families = [EntropyMatched(5, 1)]
    normal = search(tiny_lm, families, steps=20).results
    features = FrozenLM.features
    calls = []

    def breaks(self, inputs_embeds, *args):
        result = features(self, inputs_embeds, *args)
        calls.append(1)
        if len(calls) >= 10 and len(inputs_embeds) == 5:
            result = result * torch.tensor([1.0, 1.0, torch.nan, 1.0, 1.0]).unsqueeze(1)
        return result

    monkeypatch.setattr(FrozenLM, "features", breaks)
    bank = search(tiny_lm, families, steps=20).results
    assert bank.reason[2, 0] == StopReason.NOT_FINITE
    assert bank.kl[2].isfinite()
    others = [0, 1, 3, 4]
    assert (bank.kl[others] - normal.kl[others]).abs().max() <= 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_prompts_stay_float32_over_an_lm_of_any_dtype(search, tiny_lm, dtype):
    module = search(tiny_lm, [EntropyMatched(3, 1)], steps=30, lm_options=LMOptions(dtype=dtype))
    assert module.prompt.dtype == module.results.prompts.dtype == torch.float32
    assert next(module.lm.parameters()).dtype == getattr(torch, dtype)
    start = search(tiny_lm, [EntropyMatched(3, 1)], steps=1, lm_options=LMOptions(dtype=dtype)).results.kl
    assert (module.results.kl < start).all()


def test_a_prompt_that_fills_the_context_is_refused(search, tiny_lm):
    with pytest.raises(InputError, match=r"make 65, .* takes 64"):
        search(tiny_lm, [OneHot(count=1)], steps=1, length=65)


def test_a_users_die_is_reached(search, tmp_path):
    path = tmp_path / "die.jsonl"
    path.write_text('{"name": "die", "probs": {" one": 0.25, " two": 0.25, " three": 0.5}}\n')
    module = search(EMBEDDED_LLAMA, [FromFile(path)], steps=250)
    records = module.evaluator.token_records(module.data.targets.batch([0]), module.results)
    targets = {r["token"]: r["target_probability"] for r in records[:3]}
    assert targets == pytest.approx({" one": 0.25, " two": 0.25, " three": 0.5}, abs=1e-6)
    assert all(abs(r["target_probability"] - r["reached_probability"]) < 0.1 for r in records)


def test_unfinished_runs_evaluate_what_they_have(search, tiny_lm):
    module = search(tiny_lm, [UniformSubset((2, 4), 2)], 2, max_epochs=1, steps=5)
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(4)), module.results)
    assert [kl is None for kl in columns["kl"]] == [False, False, True, True]
    assert columns["stop_reason"] == ["steps", "steps", "not_searched", "not_searched"]
