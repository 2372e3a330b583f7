"""Early steps of a soft search in half precision: only what the LM itself says counts."""

import json
import logging
from functools import partial

import lightning as L
import pytest
import torch

from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import EntropyMatched, OneHot
from lit_prompt.data.run_folder import RunFolder
from lit_prompt.errors import InputError
from lit_prompt.lm import FrozenLM, LMOptions
from lit_prompt.models import SoftPrompt, half_steps
from lit_prompt.models.prompt_init import PromptInit

FAMILIES = [EntropyMatched([1.0, 3.0, 5.0], 2), OneHot(count=2)]


def test_nine_early_steps_in_ten_go_through_the_copy(search, tiny_lm, monkeypatch):
    rows, inner = {torch.float32: 0, torch.bfloat16: 0}, FrozenLM.features

    def count(self, *args, **kw):
        if torch.is_grad_enabled() and len(args[0]) == 2:  # not a probe
            rows[self.dtype] += 2
        return inner(self, *args, **kw)

    monkeypatch.setattr(FrozenLM, "features", count)
    search(tiny_lm, [OneHot(count=2)], steps=40, half_steps=30, kl_tolerance=0.0)
    assert rows == {torch.float32: 2 * (3 + 10), torch.bfloat16: 2 * 27}


@pytest.fixture
def pays(monkeypatch):
    """Half steps pay here, also for a tiny LM."""
    monkeypatch.setattr(half_steps, "_LARGE", 0)
    monkeypatch.setattr(half_steps, "computes_in_half", lambda device: True)
    monkeypatch.setattr(half_steps, "speed_in_half", lambda lm, half, length: 1.25)


def test_three_quarters_of_the_steps_where_that_pays(search, tiny_lm, pays, caplog):
    with caplog.at_level(logging.WARNING):
        found = search(tiny_lm, FAMILIES, steps=40, kl_tolerance=0.0)
    assert "gradients of the first 30 steps are in bfloat16, 1.2 times as fast here" in caplog.text
    asked = search(tiny_lm, FAMILIES, steps=40, kl_tolerance=0.0, half_steps=30)
    assert torch.equal(found.results.prompts, asked.results.prompts)
    assert not torch.equal(found.results.prompts, search(tiny_lm, FAMILIES, steps=40, half_steps=0).results.prompts)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 39},
        {"patience": 9},
        {"init": PromptInit(kind="lift")},
        {"optimizer": partial(torch.optim.LBFGS, max_iter=1)},
    ],
)
def test_none_where_a_search_begins_near_or_needs_each_step(search, tiny_lm, pays, settings):
    settings = {"steps": 40, **settings}
    found, exact = (search(tiny_lm, [OneHot(count=1)], 1, **settings, half_steps=half) for half in (None, 0))
    assert torch.equal(found.results.prompts, exact.results.prompts)


@pytest.mark.parametrize(
    ("name", "value"),
    [("_LARGE", 10**9), ("computes_in_half", lambda device: False), ("speed_in_half", lambda lm, half, length: 1.2)],
)
def test_none_where_it_does_not_pay(search, tiny_lm, pays, monkeypatch, name, value):
    monkeypatch.setattr(half_steps, name, value)
    found, exact = (search(tiny_lm, [OneHot(count=1)], steps=40, half_steps=half) for half in (None, 0))
    assert torch.equal(found.results.prompts, exact.results.prompts)


def test_a_search_that_has_come_close_goes_on_exactly(search, tiny_lm, monkeypatch):
    exact = search(tiny_lm, FAMILIES, steps=40, kl_tolerance=0.0).results
    limit = float(exact.kl.median())  # after the last step: half of the targets pass it on the way
    monkeypatch.setattr(half_steps, "_NEAR", limit)
    mixed = search(tiny_lm, FAMILIES, steps=40, half_steps=30, kl_tolerance=0.0)
    alone = search(tiny_lm, FAMILIES, 1, steps=40, half_steps=30, kl_tolerance=0.0)
    assert (mixed.results.kl - alone.results.kl).abs().max() <= 1e-4
    assert (mixed.results.forward_passes == 40).all()
    monkeypatch.setattr(half_steps, "_NEAR", float("inf"))
    assert torch.equal(
        search(tiny_lm, FAMILIES, steps=40, half_steps=30, kl_tolerance=0.0).results.prompts, exact.prompts
    )


def test_what_was_found_out_first_holds_for_a_run(tmp_path, tiny_lm, pays, monkeypatch):
    def search(steps):
        data = TargetDataModule(FAMILIES, lm=str(tiny_lm))
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[RunFolder(tmp_path)],
        )  # fmt: skip
        trainer.fit(module := SoftPrompt(steps=steps, kl_tolerance=0.0), data)
        return module.results

    search(40)
    monkeypatch.setattr(half_steps, "speed_in_half", None)  # more steps measure nothing
    assert json.loads((tmp_path / "chunks" / "half_steps.json").read_text()) == 30
    assert (search(60).steps == 60).all()
    assert json.loads((tmp_path / "chunks" / "half_steps.json").read_text()) == 30


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_what_is_kept_is_the_score_of_the_lm_itself(search, make_lm, architecture):
    module = search(make_lm(architecture), FAMILIES, steps=25, half_steps=24, before="Once", after=" and")
    columns, _ = module.evaluator.columns(module.data.targets.batch(range(8)), module.results)
    assert module.results.kl[:, 0].tolist() == pytest.approx(columns["kl"], abs=1e-4)
    assert module.results.forward_passes.tolist() == module.results.steps.tolist() == [25] * 8


def test_neighbours_do_not_change_a_result(search, tiny_lm):
    together = search(tiny_lm, FAMILIES, 64, steps=100, half_steps=75).results
    alone = search(tiny_lm, FAMILIES, 1, steps=100, half_steps=75).results
    assert (together.kl - alone.kl).abs().max() <= 1e-4
    assert torch.equal(together.steps, alone.steps)


def test_the_end_is_about_as_good(search, tiny_lm):
    exact = search(tiny_lm, FAMILIES, steps=150).results
    found = search(tiny_lm, FAMILIES, steps=150, half_steps=110).results
    assert not torch.equal(found.prompts, exact.prompts)
    assert float((found.kl - exact.kl).mean()) < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"half_steps": -1}, "model.half_steps is -1; it must be 0 or more"),
        ({"half_steps": 20}, "model.half_steps is 20 of 20 steps; leave some"),
        ({"half_steps": 10, "components": 2}, "model.half_steps is for single prompts"),
        ({"half_steps": 10, "patience": 9}, "model.patience is 9, but of model.half_steps only one in 10"),
    ],
)
def test_refused(search, tiny_lm, settings, message):
    with pytest.raises(InputError, match=message):
        search(tiny_lm, [OneHot(count=1)], steps=20, **settings)


def test_an_lm_without_a_copy_is_searched_exactly(search, tiny_lm, caplog):
    options = LMOptions(dtype="bfloat16")
    with caplog.at_level(logging.WARNING):
        found = search(tiny_lm, [OneHot(count=2)], steps=20, half_steps=10, lm_options=options).results
    assert "no copy in bfloat16; all steps are exact" in caplog.text
    exact = search(tiny_lm, [OneHot(count=2)], steps=20, lm_options=options).results
    assert torch.equal(found.prompts, exact.prompts)
