"""What a run leaves that was killed, and who takes care of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from lit_prompt.records.chunks import ChunkFiles

CONFIG = """
model: {class_path: SoftPrompt, init_args: {length: 2, steps: 2}}
data: {families: [{class_path: OneHot, init_args: {count: 2}}]}
"""
KILLED = """
import os, pathlib, sys
from lit_prompt.under_way import opened, under_way
with opened(pathlib.Path(sys.argv[1])), under_way(pathlib.Path(sys.argv[1]) / "checkpoints"):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def fit(cli, workdir, tiny_lm):
    """Fits anew."""
    (workdir / "small.yaml").write_text(CONFIG)
    return lambda: cli("fit", "--config", "small.yaml", "--lm", tiny_lm)


def test_the_next_run_beside_it_sweeps_what_was_under_way(fit):
    run = Path("logs/small/version_0")
    (run / "checkpoints").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", KILLED, run], check=False)
    assert len(list(Path("logs").rglob(".lit_prompt-*"))) == 2
    fit()
    assert (run.parent / "version_1").is_dir()
    assert not list(Path("logs").rglob(".lit_prompt-*"))


def test_a_run_is_noted_as_long_as_it_is_open(fit, cli, monkeypatch):
    noted = []

    def finish(*args):
        noted.extend(Path("logs").glob("small/.lit_prompt-*/opened/*"))
        finished(*args)

    finished = ChunkFiles.finish
    monkeypatch.setattr(ChunkFiles, "finish", finish)
    fit()
    assert {path.name for path in noted} == {"version_0"}
    assert not list(Path("logs").rglob(".lit_prompt-*"))


def test_a_search_that_was_killed_at_its_very_end_leaves_its_prompts_when_it_goes_on(fit, cli):
    fit()
    prompts = Path("logs/small/version_0/prompts.safetensors")
    found = load_file(prompts)
    prompts.unlink()
    said = cli("fit", "--run", "logs/small/version_0")
    again = load_file(prompts)
    assert found.keys() == again.keys()
    assert all((found[name] == again[name]).all() for name in found)
    assert f"prompts   {prompts}" in said
