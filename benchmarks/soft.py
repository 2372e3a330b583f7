"""Batched soft search against the obvious loop: target-steps per second and peak memory, side by side in one run.

The obvious loop takes one target at a time, asks the LM for the logits of all positions, takes their log_softmax and
the KL of the last one. Both search the same targets from the same starts with Adam on the same LM. A target-step is one
optimizer step for one target. Rounds of both alternate and the medians are compared, so that a machine that slows down
for a while slows both. Peak memory is that of a fresh process for each case.

    python benchmarks/soft.py [--lm FOLDER] [--targets 1 8 64 512] [--steps 20]
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import torch

if TYPE_CHECKING:
    from lit_prompt.models import PromptModule

CHUNK = 64
LENGTH = 5


def loop_seconds(lm_folder: str, log_p: torch.Tensor, steps: int) -> float:
    """Seconds of the obvious loop over targets ``[target, vocab]``."""
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(lm_folder, dtype=torch.float32).eval().requires_grad_(False)
    size = lm.get_input_embeddings().weight.shape[1]
    started = time.perf_counter()
    for target in log_p:
        prompt = torch.randn(1, LENGTH, size, requires_grad=True)
        optimizer = torch.optim.Adam([prompt], lr=0.1)
        for _ in range(steps):
            log_q = lm(inputs_embeds=prompt).logits.log_softmax(-1)[0, -1]
            loss = (target.exp() * (target - log_q)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - started


def search_seconds(lm_folder: str, targets_folder: str, steps: int) -> float:
    """Seconds of the project's own fit, Lightning included, without loading and start-up."""
    from lit_prompt.models import SoftPrompt

    return fit_seconds(SoftPrompt(length=LENGTH, steps=steps, kl_tolerance=0.0), lm_folder, targets_folder)


def fit_seconds(model: "PromptModule", lm_folder: str, targets_folder: str) -> float:
    """Seconds of a module's fit."""
    import lightning as L

    from lit_prompt.cli.run import quiet
    from lit_prompt.data.datamodule import TargetDataModule

    quiet()

    class Clock(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.started = time.perf_counter()

        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seconds = time.perf_counter() - self.started

    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[clock],
    )
    data = TargetDataModule(load=Path(targets_folder), chunk_size=CHUNK, lm=lm_folder)
    trainer.fit(model, datamodule=data)
    return clock.seconds


def _peak_mib() -> float:
    """Peak resident memory of this process; on Linux ru_maxrss would begin with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _child(arguments: argparse.Namespace) -> None:
    if arguments.child == "loop":
        import datasets

        rows = datasets.load_from_disk(arguments.folder).with_format("numpy")
        count = min(len(rows), arguments.loop_targets)
        seconds = loop_seconds(arguments.lm, torch.as_tensor(rows[:count]["log_probs"]), arguments.steps)
    else:
        from lit_prompt.data import TargetSet

        count = len(TargetSet(Path(arguments.folder)))
        seconds = search_seconds(arguments.lm, arguments.folder, arguments.steps)
    print(json.dumps({"rate": count * arguments.steps / seconds, "peak_mib": _peak_mib()}))


def _measure(arguments: argparse.Namespace, child: str, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", child, "--folder", folder, "--lm", arguments.lm]
    command += ["--steps", str(arguments.steps), "--loop-targets", str(arguments.loop_targets)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-targets", type=int, default=8, help="targets that the loop is timed on, at most")
    parser.add_argument("--child", choices=["loop", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments)
        return

    from lit_prompt.data import TargetSet
    from lit_prompt.data.families import Temperature
    from lit_prompt.lm import LMOptions, Vocabulary

    vocabulary = Vocabulary.load(arguments.lm, LMOptions())
    print(f"{arguments.lm}, {LENGTH} embeddings, chunks of {CHUNK}, {arguments.steps} steps, "
          f"median of {arguments.rounds} rounds, {torch.get_num_threads()} threads")  # fmt: skip
    print("targets   loop steps/s   batched steps/s   ratio   loop MiB   batched MiB")
    for count in arguments.targets:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "targets"
            grid = Temperature([float(h) for h in torch.linspace(0.5, 8.0, count)], 1).targets(vocabulary)
            TargetSet.write(folder, grid, vocabulary.size, vocabulary.fingerprint)
            rounds = [
                (_measure(arguments, "loop", str(folder)), _measure(arguments, "search", str(folder)))
                for _ in range(arguments.rounds)
            ]
        loop, batched = (statistics.median(r[i]["rate"] for r in rounds) for i in (0, 1))
        ratio = statistics.median(r[1]["rate"] / r[0]["rate"] for r in rounds)
        peaks = [max(r[i]["peak_mib"] for r in rounds) for i in (0, 1)]
        print(
            f"{count:7d}   {loop:12.1f}   {batched:15.1f}   {ratio:5.1f}   {peaks[0]:8.0f}   {peaks[1]:11.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
