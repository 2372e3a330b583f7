"""The lift against gradient search and against the floor."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_prompt.data.families import EntropyMatched, OneHot
from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions
from lit_prompt.models import PromptInit, SoftPrompt, floor_progress
from lit_prompt.models.floors import FloorOptions, Floors
from lit_prompt.records import floors
from lit_prompt.records.floors import KnownFloor
from lit_prompt.search import StopReason
from tests.conftest import ARCHITECTURES, EMBEDDED_GPT2, EMBEDDED_LLAMA

EVERY = [name for name in ARCHITECTURES if name not in ("gemma2", "opt", "post_norm")]
FAMILIES = [EntropyMatched([0.1, 2.0, 4.0, 5.0], 2), OneHot(count=2)]


def lift_prompt(**settings):
    """A module whose lifted prompts stand."""
    return SoftPrompt(**{"length": 1, "init": PromptInit("lift"), "lift_tolerance": 1e-3} | settings)


def columns_of(module):
    return module.evaluator.columns(module.data.targets.batch(range(len(module.data.targets))), module.results)[0]


@pytest.mark.parametrize("lm", [EMBEDDED_LLAMA, EMBEDDED_GPT2], ids=["llama", "gpt2"])
def test_lift_is_no_worse_than_adam_and_at_the_floor(search, lm):
    families = [EntropyMatched([0.1, 2.0, 5.0, 8.0], 2), OneHot(count=2)]
    lifted = columns_of(search(lm, families, kind=lift_prompt, steps=1))
    adam = columns_of(search(lm, families, steps=100, kl_tolerance=0.0))
    assert set(lifted["stop_reason"]) <= {"lift", "kl_tolerance"}
    kl, floor = np.array(lifted["kl"]), np.array(lifted["kl_floor"])
    assert (kl <= np.array(adam["kl"]) + 1e-5).all()
    on_boundary = np.array(lifted["excess_norm"]) <= 1.05e-3
    assert on_boundary.sum() >= 6
    assert (kl - floor)[on_boundary].max() <= 1.1e-3
    assert np.abs(lifted["excess_prompt"]).max() <= 1e-3
    np.testing.assert_allclose(lifted["excess"], kl - floor)
    np.testing.assert_allclose(np.array(lifted["excess_norm"]) + lifted["excess_prompt"], lifted["excess"])


@pytest.mark.parametrize("architecture", EVERY)
def test_lift_works_in_every_pre_norm_architecture(search, make_lm, architecture):
    module = search(make_lm(architecture), FAMILIES, kind=lift_prompt, steps=1)
    assert (module.results.reason[:, 0] != StopReason.STEPS).all()
    assert (np.array(columns_of(module)["kl"]) <= np.array(columns_of(module)["kl_floor"]) + 0.6).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lift_in_half_precision(search, tiny_lm, dtype):
    options = LMOptions(dtype=dtype)
    module = search(tiny_lm, FAMILIES, kind=lift_prompt, steps=1, lm_options=options, lift_tolerance=0.01)
    assert (module.results.reason[:, 0] != StopReason.STEPS).all()


@pytest.mark.parametrize(
    ("architecture", "settings"), [("gemma2", {}), ("opt", {}), ("post_norm", {}), ("llama", {"after": " and"})]
)
def test_where_the_lift_does_not_do_gradient_search_goes_on(search, make_lm, architecture, settings, caplog):
    start = search(make_lm(architecture), FAMILIES, kind=lift_prompt, steps=1, **settings)
    end = search(make_lm(architecture), FAMILIES, kind=lift_prompt, steps=40, **settings)
    fell_back = end.results.reason[:, 0] == StopReason.STEPS
    assert fell_back.any()
    assert (end.results.kl <= start.results.kl).all()
    assert end.results.kl[fell_back].mean() < start.results.kl[fell_back].mean()
    assert "searched by gradient descent" in caplog.text
    if architecture in ("gemma2", "opt"):
        assert "no lift" in caplog.text
    columns = columns_of(end)
    assert (columns["kl_floor"] == [None] * 10) == (architecture == "gemma2")
    assert (columns["excess"] == [None] * 10) == (architecture == "gemma2")


@pytest.mark.parametrize("settings", [{"max_norm": 2.0}, {"after": " and"}, {"restarts": 2}, {"length": 4}], ids=str)
def test_lift_is_a_start_under_every_setting(search, tiny_lm, settings):
    module = search(tiny_lm, FAMILIES, steps=30, init=PromptInit("lift"), **settings)
    plain = search(tiny_lm, FAMILIES, steps=1, **settings)
    assert (module.results.kl.amin(1) <= plain.results.kl.amin(1) + 1e-6).float().mean() >= 0.8
    if (limit := settings.get("max_norm")) is not None:
        assert module.results.prompts.norm(dim=-1).max() <= limit + 1e-5


def test_company_does_not_change_a_lift(search, tiny_lm):
    together = search(tiny_lm, FAMILIES, kind=lift_prompt, steps=1).results
    alone = search(tiny_lm, FAMILIES, 1, kind=lift_prompt, steps=1).results
    assert (together.kl - alone.kl).abs().max() <= 1e-5
    assert torch.equal(together.reason, alone.reason)


def test_a_lift_depends_neither_on_the_clock_nor_on_what_is_known(search, tiny_lm, tmp_path):
    module = search(tiny_lm, FAMILIES, kind=lift_prompt, steps=1)
    batch = module.data.targets.batch(range(10))
    point, kl = Floors(module.lm, None).sphere_points(batch)
    hasty = Floors(module.lm, tmp_path, FloorOptions(seconds=0.0))
    early = hasty.of(batch)
    assert any(floor.kl_sphere > value + 1e-3 for floor, value in zip(early, kl.tolist(), strict=True))
    for other in (hasty, Floors(module.lm, tmp_path, FloorOptions(solve=False))):
        assert all(torch.equal(a, b) for a, b in zip(other.sphere_points(batch), (point, kl), strict=True))
    assert Floors(module.lm, None, FloorOptions(solve=False)).of(batch) == [None] * 10


def test_what_the_clock_cut_is_reported_but_not_kept(search, tiny_lm, tmp_path, monkeypatch):
    """The clock moves a second each time a solver looks at it, so that it ends in every phase."""
    module = search(tiny_lm, FAMILIES, steps=1)
    batch = module.data.targets.batch(range(10))
    whole = Floors(module.lm, None).of(batch)
    monkeypatch.setattr(floor_progress, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    kept = []
    for seconds in range(0, 60, 3):
        hasty = Floors(module.lm, tmp_path / str(seconds), FloorOptions(seconds=seconds))
        assert None not in hasty.of(batch)
        assert hasty.of(batch) == hasty.of(batch)
        for tolerance in (10.0, 1e-3):
            later = Floors(module.lm, tmp_path / str(seconds), FloorOptions(solve=False, tolerance=tolerance)).of(batch)
            for known, each in zip(later, whole, strict=True):
                if known is not None:
                    assert vars(known) == pytest.approx(vars(each), abs=2e-3)
        kept.append(10 - later.count(None))
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert set(kept) - {0, 10}  # some in time, others not
    assert kept[-1] == 10


def test_floors_are_solved_once_for_all_runs_of_an_lm(search, tiny_lm, tmp_path, monkeypatch):
    module = search(tiny_lm, FAMILIES, steps=1)
    some, every = module.data.targets.batch(range(6)), module.data.targets.batch(range(10))
    other_run = Floors(module.lm, tmp_path)
    first = Floors(module.lm, tmp_path).of(some)
    whole = other_run.of(every)  # had read the cache before there was anything in it
    assert [floor.kl_floor for floor in whole[:6]] == pytest.approx([floor.kl_floor for floor in first], abs=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == [f"{module.lm.fingerprint}.parquet"]
    monkeypatch.setattr(Floors, "_solve", lambda *_: pytest.fail("solved twice"))
    assert Floors(module.lm, tmp_path).of(every) == whole


def test_floors_of_another_lm_wider_ones_and_a_broken_file_are_not_used(search, tiny_lm, make_lm, tmp_path):
    module, other = (search(lm, FAMILIES, steps=1) for lm in (tiny_lm, make_lm("gpt2")))
    batch = module.data.targets.batch(range(10))
    wide = Floors(module.lm, tmp_path, FloorOptions(tolerance=0.5)).of(batch)
    fine = Floors(module.lm, tmp_path, FloorOptions(tolerance=1e-5)).of(batch)
    assert any(b.kl_floor > a.kl_floor + 1e-4 for a, b in zip(wide, fine, strict=True))
    assert all(b.kl_floor >= a.kl_floor - 1e-9 for a, b in zip(wide, fine, strict=True))
    assert Floors(module.lm, tmp_path, FloorOptions(tolerance=0.5)).of(batch) == fine
    theirs = Floors(other.lm, tmp_path).of(other.data.targets.batch(range(10)))
    assert theirs[2].kl_floor != fine[2].kl_floor
    (tmp_path / f"{module.lm.fingerprint}.parquet").write_bytes(b"no parquet")
    assert Floors(module.lm, tmp_path, FloorOptions(tolerance=1e-5)).of(batch) == fine


def test_floors_that_another_version_solved_are_not_used(search, tiny_lm, tmp_path, monkeypatch):
    module = search(tiny_lm, FAMILIES, steps=1)
    batch = module.data.targets.batch(range(10))
    Floors(module.lm, tmp_path).of(batch)
    monkeypatch.setattr(floors, "__version__", "newer")
    solved = []
    monkeypatch.setattr(Floors, "_solve", lambda self, batch, keys, which, *_: solved.extend(which))
    Floors(module.lm, tmp_path).of(batch)
    assert solved == list(range(10))


def test_a_search_goes_on_where_floors_cannot_be_kept(search, tiny_lm, tmp_path, caplog):
    module = search(tiny_lm, FAMILIES, steps=1)
    (tmp_path / "file").write_text("")
    kept = Floors(module.lm, None).of(module.data.targets.batch(range(10)))
    assert Floors(module.lm, tmp_path / "file").of(module.data.targets.batch(range(10))) == kept
    assert caplog.text.count("floors are not kept") == 1


def test_a_prompt_that_breaks_the_final_norms_arithmetic_has_no_floor(search, make_lm, caplog):
    module = search(make_lm("gpt2"), [EntropyMatched(3, 1)], steps=1, kind=SoftPrompt)
    batch = module.data.targets.batch(range(3))
    sound = module.evaluator.columns(batch, module.results)[0]
    module.results.prompts[1] += 1e6
    columns = module.evaluator.columns(batch, module.results)[0]
    for name in ("kl_floor", "excess", "excess_norm", "excess_prompt"):
        assert columns[name][1] is None
        assert columns[name][::2] == sound[name][::2] != [None, None]
    assert "no floor holds for 1 of 3 prompts" in caplog.text


@torch.no_grad()
def test_baselines_are_the_best_of_their_prompts(search, tiny_lm):
    module = search(tiny_lm, [EntropyMatched(3, 1)], steps=1, length=3, before="Once", kind=SoftPrompt)
    batch = module.data.targets.batch(range(3))
    columns = module.evaluator.columns(batch, module.results)[0]
    before = torch.tensor(module.data.vocabulary.encode("Once"))
    p = batch.log_probs.double()
    for kind in ("random", "natural"):
        ids = module.evaluator._baselines._prompts(kind)
        assert ids.shape == (128, 3)
        whole = torch.cat([before.expand(len(ids), -1), ids], 1)
        log_q = module.lm.model(input_ids=whole).logits[:, -1].double().log_softmax(-1)
        kl = (p.exp().unsqueeze(1) * (p.unsqueeze(1) - log_q)).sum(-1)
        np.testing.assert_allclose(columns[f"kl_best_{kind}"], kl.amin(1), atol=1e-5)


def test_an_evaluation_refuses_a_floor_above_what_was_reached(search, tiny_lm, monkeypatch):
    module = search(tiny_lm, [EntropyMatched(3, 1)], steps=1, kind=SoftPrompt)
    batch = module.data.targets.batch(range(3))
    kl = module.evaluator.columns(batch, module.results)[0]["kl"]
    raised = [KnownFloor(x + 1.0, x + 1.0, x + 1.0) for x in kl]
    monkeypatch.setattr(Floors, "known", lambda *_: raised)
    with pytest.raises(InputError, match=r"^floors: the floor of \S+, .* is above the KL that a prompt has reached"):
        module.evaluator.columns(batch, module.results, compared=False)
