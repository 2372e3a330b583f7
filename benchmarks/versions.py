"""Two versions of this project side by side: candidates a second, and the KL after as many steps of hard search.

A process of each version searches the same random targets, in turn and several times. What counts is the processor's
time between the end of an early step and that of the last, so that neither the bank nor loading is in it. The last
column says how many times sooner the present version is as good as the one that ends with the higher KL.

    git worktree add ../before 902fa07
    python benchmarks/versions.py ../before --lm data/lms/SmolLM2-135M-Instruct.Q4_1.gguf [--steps 30] [--rounds 2]
"""

import argparse
import inspect
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

LENGTH, EARLY = 10, 5


def measure(searcher: str, lm: str, targets: int, steps: int, exact: bool, seed: int) -> list[tuple[float, int, float]]:
    """Seconds, forward passes and mean KL from an early step on, of the version that Python finds here."""
    import lightning as L

    from lit_prompt import search
    from lit_prompt.data.datamodule import TargetDataModule
    from lit_prompt.data.families import EntropyMatched
    from lit_prompt.models import HardPrompt

    class Noted(L.Callback):
        """Processor time, forward passes and best KLs after each step."""

        def __init__(self) -> None:
            self.steps: list[tuple[float, int, float]] = []

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *rest: Any) -> None:
            best = pl_module.under_search()[1] if hasattr(pl_module, "under_search") else pl_module.best
            self.steps.append((time.process_time(), int(best.forward_passes.sum()), float(best.kl.mean())))

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    entropies = [1.0 + 6.0 * i / max(1, targets - 1) for i in range(targets)]
    # older versions' data modules are told the steps, and their modules the LM
    told: dict[str, Any] = {"steps": steps} if "steps" in inspect.signature(TargetDataModule).parameters else {}
    data = TargetDataModule([EntropyMatched(entropies, 1)], chunk_size=targets, lm=lm, **told)
    settings = {"kl_tolerance": 0.0, "seed": seed, "searcher": getattr(search, searcher)()}
    known = inspect.signature(HardPrompt).parameters
    if exact and "screening" in known:  # older versions have no other way
        settings["screening"] = "never"
    if "lm" in known:
        settings["lm"] = lm
    module = HardPrompt(LENGTH, steps, **settings)
    noted = Noted()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[noted],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    began, first, _ = noted.steps[EARLY - 1]
    return [(seconds - began, passes - first, kl) for seconds, passes, kl in noted.steps[EARLY:]]


def main() -> None:
    """Measures and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--lm", required=True, help="folder or GGUF file")
    parser.add_argument("--searcher", default="SharedSearch", help="a class of lit_prompt.search")
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--exact", action="store_true", help="without bfloat16, as where processors have none")
    parser.add_argument("--rounds", type=int, default=2, help="each with a seed of its own")
    arguments = parser.parse_args()
    versions = {"before": arguments.before.resolve(), "now": Path(__file__).resolve().parents[1]}
    if not (versions["before"] / "lit_prompt").is_dir():
        parser.error(f"{arguments.before} is no checkout of lit_prompt")
    lm = arguments.lm if not Path(arguments.lm).exists() else str(Path(arguments.lm).resolve())
    print("| seed | candidates/s, before | now | ratio | mean KL, before | now | as good sooner |")
    print("|---|---|---|---|---|---|---|")
    for seed in range(arguments.rounds):
        asked = [arguments.searcher, lm, arguments.targets, arguments.steps, arguments.exact, seed]
        found = {}
        for version, folder in versions.items():
            call = [sys.executable, "-c", f"import runpy; runpy.run_path({__file__!r})['one'](*{asked!r})"]
            done = subprocess.run(
                call, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, stdout=subprocess.PIPE
            )
            if done.returncode:
                sys.exit(f"the version in {folder} ended with code {done.returncode}")
            found[version] = json.loads(done.stdout.splitlines()[-1])
        before, now = (found[version] for version in versions)
        tried, tried_now = (passes / seconds for seconds, passes, _ in (before[-1], now[-1]))
        kl, kl_now = before[-1][2], now[-1][2]
        met, met_now = (next(at for at, _, own in steps if own <= max(kl, kl_now)) for steps in (before, now))
        print(
            f"| {seed} | {tried:.0f} | {tried_now:.0f} | {tried_now / tried:.2f} | {kl:.3f} | {kl_now:.3f} "
            f"| {met / met_now:.2f} |",
            flush=True,
        )


def one(*asked: Any) -> None:
    """Prints what the version that Python finds does, as JSON."""
    print("\n" + json.dumps(measure(*asked)))


if __name__ == "__main__":
    main()
