"""A run that is killed at a random moment and resumed ends in the same result, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lit_prompt.data import Target, TargetSet
from lit_prompt.lm import LMOptions, Vocabulary

CONFIG = """
model:
  class_path: SoftPrompt
  init_args: {steps: 120, restarts: 2}
data:
  chunk_size: 3
  families:
    - class_path: EntropyMatched
      init_args: {entropies: 4, per_entropy: 2}
checkpoint: {every_n_steps: 7}
"""


HARD = """
model:
  class_path: HardPrompt
  init_args:
    {length: 5, steps: 40, restarts: 2, searcher: {class_path: SharedSearch, init_args: {width: 12}},
     start: {random_sequences: 4, sampled_texts: 4, drawn_sequences: 2}, before: The king}
data: {chunk_size: 3, load: contexts}
checkpoint: {every_n_steps: 3}
"""


CONTEXTS = """
model:
  class_path: SoftPrompt
  init_args: {steps: 60, restarts: 2, before: The king}
data: {chunk_size: 3, load: contexts}
"""


def _command(*args: object) -> list[str]:
    return [sys.executable, "-m", "lit_prompt", *map(str, args)]


def _state(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def _write_contexts(workdir: Path, lm: Path) -> None:
    """Saves eight targets with four texts before them and two after."""
    vocabulary = Vocabulary.load(str(lm), LMOptions())
    texts = [None, "Yes,", "one, two, three, four,", ""]
    targets = []
    for i in range(8):
        logits = torch.randn(vocabulary.size, generator=torch.Generator().manual_seed(i))
        targets.append(replace(Target.from_logits(f"t{i}", "random", logits), before=texts[i % 4], after=texts[i // 4]))
    TargetSet.write(workdir / "contexts", targets, vocabulary.size, vocabulary.fingerprint)


@pytest.mark.parametrize(
    ("config", "steps", "number", "chunk"),
    [
        (CONFIG, 120, signal.SIGKILL, 0),
        (CONFIG, 120, signal.SIGKILL, 1),
        (CONFIG, 120, signal.SIGINT, 1),
        (HARD, 40, signal.SIGKILL, 1),
    ],
    ids=["soft-kill-0", "soft-kill-1", "soft-int-1", "hard-kill-1"],
)
def test_killed_and_resumed_is_bit_identical(workdir, tiny_lm, config, steps, number, chunk):
    _write_contexts(workdir, tiny_lm)
    (workdir / "r.yaml").write_text(config)
    fit = _command("fit", "--config", "r.yaml", "--lm", tiny_lm)
    whole, broken = (workdir / "logs" / "r" / f"version_{k}" for k in (0, 1))
    subprocess.run(fit, check=True, capture_output=True)
    process = subprocess.Popen(fit, stderr=subprocess.PIPE, text=True)
    step = random.randint(steps * chunk + 7, steps * chunk + int(0.8 * steps))
    while not (broken / "checkpoints" / "last.ckpt").exists() or _state(broken)["global_step"] < step:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"Resume with: lit_prompt fit --run {broken.relative_to(workdir)}" in said
        assert "Traceback" not in said
    before = _state(broken)
    assert before["epoch"] >= chunk
    assert before["global_step"] < _state(whole)["global_step"]
    resumed = subprocess.run(
        _command("fit", "--run", broken.relative_to(workdir)), check=True, capture_output=True, text=True
    )
    assert "lit_prompt test --run" in resumed.stdout
    for foreign in ("unreliable", "Lightning", "Tip", "Warning"):  # the promise is ours, and so are the words
        assert foreign not in resumed.stdout + resumed.stderr
    expected, found = _state(whole), _state(broken)
    for name, value in expected["lit_prompt"]["results"].items():
        if name != "seconds":
            assert torch.equal(value, found["lit_prompt"]["results"][name]), (
                name,
                before["epoch"],
                before["global_step"],
            )
    assert found["lit_prompt"]["results"]["kl"].isfinite().all()
    curves, others = (state["callbacks"]["KLCurves"]["curves"] for state in (expected, found))
    for target, curve in curves.items():
        assert torch.equal(curve, others[target])


def test_resume_into_a_new_run_with_a_checkpoint(workdir, tiny_lm):
    _write_contexts(workdir, tiny_lm)
    (workdir / "r.yaml").write_text(CONTEXTS)
    fit = _command("fit", "--config", "r.yaml", "--lm", tiny_lm)
    subprocess.run(fit, check=True, capture_output=True)
    partial = [*fit, "--trainer.max_epochs", "2"]
    subprocess.run(partial, check=True, capture_output=True)
    checkpoint = workdir / "logs" / "r" / "version_1" / "checkpoints" / "last.ckpt"
    results = _state(checkpoint.parent.parent)["lit_prompt"]["results"]
    assert results["kl"].isfinite().all(1).tolist() == [True] * 6 + [False] * 2
    subprocess.run([*fit, "--ckpt_path", str(checkpoint)], check=True, capture_output=True)
    expected, found = (_state(workdir / "logs" / "r" / f"version_{k}")["lit_prompt"]["results"] for k in (0, 2))
    assert torch.equal(expected["kl"], found["kl"])
    assert torch.equal(expected["prompts"], found["prompts"])
