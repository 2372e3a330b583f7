"""A search that has ended is taken further, as if it had been given all its steps at once."""

from pathlib import Path

import pytest
import torch
import yaml

from lit_prompt.lm import FrozenLM
from tests.saved import curves, parts
from tests.test_interruption import BANK, FAMILIES, LIFT, SEARCHER, SOFT, found, same, signal_at

STEP_LR = (
    """
model:
  class_path: SoftPrompt
  init_args:
    {steps: 12, patience: 9, scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 4}}}
"""
    + FAMILIES
)
ONE_CYCLE = STEP_LR.replace("StepLR", "OneCycleLR").replace("{step_size: 4}", "{max_lr: 0.1, total_steps: 12}")
COSINE = STEP_LR.replace("StepLR", "CosineAnnealingLR").replace("step_size", "T_max")
CONFIGS = {
    "adam": SOFT,
    "schedule": STEP_LR,
    "lift": LIFT,
    "bank": BANK,
    "gcg": SEARCHER % ("GCG", "{width: 8, buffer: 3, momentum: 0.5, n_replace_start: 3, schedule: 4}"),
}


@pytest.fixture
def fit(cli, workdir, tiny_lm):
    """Fits a config for some steps, in a new run."""

    def run(text, steps, version=0):
        (workdir / "run.yaml").write_text(text)
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm, "--model.steps", steps)
        return Path(f"logs/run/version_{version}")

    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_in_two_parts_are_those_of_one_search(name, fit, cli):
    whole = fit(CONFIGS[name], 6)
    run = fit(CONFIGS[name], 2, version=1)
    assert not same(found(whole), found(run))
    with signal_at(FrozenLM, "features", 9):
        cli("fit", "--run", run, "--model.steps", 6, code=130)
    cli("fit", "--run", run)
    assert same(found(whole), found(run))
    assert torch.equal(curves(whole), curves(run))
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["steps"] == 6
    assert list(parts(run)) == ["chunk_0.steps_6.zip", "chunk_1.steps_6.zip"]
    assert "recomputed from the saved prompts" in cli("test", "--run", run)


def test_what_cannot_be_extended_says_so_in_a_line(fit, cli, caplog):
    run = fit(ONE_CYCLE, 12)
    assert "OneCycleLR, total_steps 12, has no step after the last" in cli(
        "fit", "--run", run, "--model.steps", 20, code=2
    )
    run = fit(COSINE, 12, version=1)
    assert "was made" not in caplog.text
    cli("fit", "--run", run, "--model.steps", 14)
    assert "was made for fewer steps (CosineAnnealingLR, T_max 4) and goes on" in caplog.text
    assert "made with steps = 14, this run has 3" in cli("fit", "--run", run, "--model.steps", 3, code=2)


def test_a_search_that_was_cut_is_extended_where_it_is(fit, cli, workdir, tiny_lm):
    whole = fit(SOFT, 20)
    with signal_at(FrozenLM, "features", 20):
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm, code=130)
    run = Path("logs/run/version_1")
    assert list(parts(run)) == ["chunk_0.steps_12.zip", "chunk_1.under_way.zip"]
    cli("fit", "--run", run, "--model.steps", 20)
    assert list(parts(run)) == ["chunk_0.steps_20.zip", "chunk_1.steps_20.zip"]
    assert same(found(whole), found(run))
