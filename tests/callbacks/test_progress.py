"""The bar of a search that is resumed, and of one whose steps last."""

import os
import re
import signal
from pathlib import Path

import pytest

from lit_prompt.callbacks.curves import KLCurves
from tests.saved import parts
from tests.test_interruption import FAMILIES, SOFT, signal_at
from tests.test_progress import seen_in_terminal

HARD = "model: {class_path: HardPrompt, init_args: {length: 5, steps: 2, start: {kind: random}}}" + FAMILIES
SLOW = """
import time
from lit_prompt.main import main
from lit_prompt.scoring import MicroBatch
run = MicroBatch.run
def slow(*args):
    time.sleep(1.1)
    run(*args)
MicroBatch.run = slow
main(["fit", "--config", "run.yaml", "--lm", "%s"])
"""


def test_the_bar_of_a_resumed_run_begins_where_it_was_and_knows_its_total(cli, workdir, tiny_lm):
    (workdir / "run.yaml").write_text(SOFT.replace("steps: 12", "steps: 120"))
    with signal_at(KLCurves, "on_train_batch_end", call=120 + 55, number=signal.SIGINT):
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm, code=130)
    run = "logs/run/version_0"
    done = parts(Path(run))["chunk_1.under_way.zip"]["made"]
    assert 50 <= done < 60
    said = cli("fit", "--run", run)
    bars = re.findall(r"chunk (\d)/(\d): +(\d+)%.*? step (\d+)/(\d+) ", said)
    assert bars
    chunk, chunks, percent, step, total = map(int, bars[0])
    assert (chunk, chunks, total) == (2, 2, 120)
    assert done <= step <= 120
    assert percent == round(100 * step / 120)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_step_that_lasts_shows_the_kl_before_it_and_how_many_prompts_it_has_scored(workdir, tiny_lm):
    (workdir / "run.yaml").write_text(HARD)
    seen = seen_in_terminal(SLOW % tiny_lm)
    shown = re.findall(
        r"chunk (\d)/2: .*? step (\d)/2 \[[\d:]+<[\d:?]+(?:, median KL=([\d.]+))?(?:, scored=(\d+))?\]", seen
    )
    seen_kl = {}
    for chunk in "12":
        for step in "01":
            assert len({scored for *at, _, scored in shown if at == [chunk, step] and scored}) >= 3
        seen_kl[chunk] = [(step, float(kl)) for number, step, kl, _ in shown if number == chunk and kl]
        assert {step for step, _ in seen_kl[chunk]} == {"0", "1", "2"}  # that of the start, too
        assert seen_kl[chunk][-1][1] <= seen_kl[chunk][0][1]
    assert seen_kl["2"][0][1] != seen_kl["1"][-1][1]  # no chunk shows the KL of the one before
