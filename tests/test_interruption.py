"""Ctrl-C and SIGTERM end every phase of every command at once, lose nothing and say how to go on."""

import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lit_prompt.lm import FrozenLM

FAMILIES = """
data:
  chunk_size: 3
  families:
    - class_path: EntropyMatched
      init_args: {entropies: 3, per_entropy: 2}
"""
SOFT = "model: {class_path: SoftPrompt, init_args: {length: 3, steps: 12, restarts: 2}}" + FAMILIES
LBFGS = """
model: {class_path: SoftPrompt, init_args: {steps: 4, optimizer: {class_path: torch.optim.LBFGS, init_args: {lr: 0.1}}}}
""" + FAMILIES.replace("chunk_size: 3", "chunk_size: 1").replace("entropies: 3, per_entropy: 2", "entropies: 2")
LIFT = "model: {class_path: SoftPrompt, init_args: {length: 1, steps: 6, init: {kind: lift}}}" + FAMILIES
SEARCHER = """
model:
  class_path: HardPrompt
  init_args: {length: 4, steps: 5, restarts: 2, before: The king, searcher: {class_path: %s, init_args: %s}}
""" + FAMILIES  # fmt: skip
BANK = (
    """
model:
  class_path: HardPrompt
  init_args: {length: 4, steps: 5, start: {random_sequences: 4, sampled_texts: 4, drawn_sequences: 2}}
"""
    + FAMILIES
)
CONFIGS = {
    "soft": SOFT,
    "lbfgs": LBFGS,
    "lift": LIFT,
    "bank": BANK,
    "shared": SEARCHER % ("SharedSearch", "{width: 8, top_k: 16}"),
    "gcg": SEARCHER % ("GCG", "{width: 8, buffer: 3, momentum: 0.5}"),
    "hotflip": SEARCHER % ("HotFlip", "{num_candidates: 8, beam_size: 2}"),
    "gbda": SEARCHER % ("GBDA", "{relaxed: 2, sample_every: 1, samples: 3}"),
    "pez": SEARCHER % ("PEZ", "{}"),
}


@contextmanager
def signal_at(owner, name, call=1, number=signal.SIGINT):
    """Sends this process a signal when a function is called for the n-th time; gives the list of its calls."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(number)
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


@pytest.fixture
def searched(cli, workdir, tiny_lm):
    """Fits a config; returns what was found, and what was said."""

    def run(name, text, *options, version=0, code=0):
        (workdir / f"{name}.yaml").write_text(text)
        said = cli("fit", "--config", f"{name}.yaml", "--lm", tiny_lm, *options, code=code)
        return Path(f"logs/{name}/version_{version}"), said

    return run


def found(run):
    """Everything that a search has found but for the time that it took."""
    results = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["lit_prompt"]["results"]
    return {name: value for name, value in results.items() if name != "seconds"}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_that_is_cut_is_made_again(name, searched, cli):
    text = CONFIGS[name]
    with signal_at(FrozenLM, "features", call=0) as passes:
        whole, _ = searched("run", text)
    for version, share in enumerate((0.3, 0.6), start=1):
        call = int(share * len(passes))
        with signal_at(FrozenLM, "features", call):
            run, said = searched("run", text, version=version, code=130)
        assert f"Resume with: lit_prompt fit --run {run}" in said.splitlines()[-1]
        assert not same(found(whole), found(run))
        cli("fit", "--run", run)
        assert same(found(whole), found(run)), call
