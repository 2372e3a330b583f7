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
from tests.saved import curves, parts, saved, steps_made

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
    {length: 5, steps: 40, restarts: 2, screening: never, searcher: {class_path: SharedSearch, init_args: {width: 12}},
     start: {random_sequences: 4, sampled_texts: 4, drawn_sequences: 2}, before: The king}
data: {chunk_size: 3, load: contexts}
checkpoint: {every_n_steps: 3}
"""


# tries at a signal in the chunk that is meant: on a busy machine it may come when the next one has begun
_TRIES = 5


def _command(*args: object) -> list[str]:
    return [sys.executable, "-m", "lit_prompt", *map(str, args)]


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
        (CONFIG.replace("steps: 120", "steps: 120, half_steps: 100"), 120, signal.SIGKILL, 1),
        (HARD, 40, signal.SIGKILL, 1),
        (CONFIG.replace("steps: 120", "steps: 120, components: 3"), 120, signal.SIGINT, 1),
        (HARD.replace("steps: 40", "steps: 40, components: 5"), 40, signal.SIGKILL, 1),
    ],
    ids=[
        "soft-kill-0",
        "soft-kill-1",
        "soft-int-1",
        "half-steps-kill-1",
        "hard-kill-1",
        "mixture-soft-int-1",
        "mixture-hard-kill-1",
    ],
)
def test_killed_and_resumed_is_bit_identical(workdir, tiny_lm, config, steps, number, chunk):
    _write_contexts(workdir, tiny_lm)
    (workdir / "r.yaml").write_text(config)
    fit = _command("fit", "--config", "r.yaml", "--lm", tiny_lm)
    whole, *tries = (workdir / "logs" / "r" / f"version_{k}" for k in range(1 + _TRIES))
    subprocess.run(fit, check=True, capture_output=True)
    for broken in tries:
        process = subprocess.Popen(fit, stderr=subprocess.PIPE, text=True)
        step = random.randint(steps * chunk + 7, steps * chunk + int(0.8 * steps))
        while steps_made(broken) < step:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        _, said = process.communicate()
        before = parts(broken)
        if len(before) == chunk + 1:
            break
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"Resume with: lit_prompt fit --run {broken.relative_to(workdir)}" in said
        assert "Traceback" not in said
    else:
        assert process.returncode == -number
    assert len(before) == chunk + 1
    assert list(before)[-1] == f"chunk_{chunk}.under_way.zip"
    resumed = subprocess.run(
        _command("fit", "--run", broken.relative_to(workdir)), check=True, capture_output=True, text=True
    )
    assert "lit_prompt test --run" in resumed.stdout
    for foreign in ("unreliable", "Lightning", "Tip", "Warning"):  # the promise is ours, and so are the words
        assert foreign not in resumed.stdout + resumed.stderr
    expected, found = saved(whole), saved(broken)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), (name, steps_made(broken))
    assert found["kl"].isfinite().all()
    assert torch.equal(curves(whole), curves(broken))
