"""The bar of a search that is resumed."""

import re
import signal

import torch

from lit_prompt.callbacks.curves import KLCurves
from tests.test_interruption import SOFT, signal_at


def test_the_bar_of_a_resumed_run_begins_where_it_was_and_knows_its_total(cli, workdir, tiny_lm):
    (workdir / "run.yaml").write_text(SOFT.replace("steps: 12", "steps: 120"))
    with signal_at(KLCurves, "on_train_batch_end", call=120 + 55, number=signal.SIGINT):
        cli("fit", "--config", "run.yaml", "--lm", tiny_lm, code=130)
    run = "logs/run/version_0"
    loops = torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["loops"]["fit_loop"]
    done = loops["epoch_loop.batch_progress"]["current"]["completed"]
    assert 50 <= done < 60
    said = cli("fit", "--run", run)
    bars = re.findall(r"chunk (\d)/(\d): +(\d+)%.*? step (\d+)/(\d+) ", said)
    assert bars
    chunk, chunks, percent, step, total = map(int, bars[0])
    assert (chunk, chunks, total) == (2, 2, 120)
    assert done <= step <= 120
    assert percent == round(100 * step / 120)
