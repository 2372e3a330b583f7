"""What a step asks of the device: operations, and how often it waits, with 16 and with 96 targets.

A GPU stays busy where the program seldom waits for it and what it is asked for does not grow with the targets. Both are
counted on the simulated device of the tests, which needs a C++ compiler and no GPU; where there is one, its waits are
counted there, too, by torch itself. A count is a step's: the difference between a longer and a shorter search over the
steps between them, so that what a search does once is left out.

    python benchmarks/device.py [--lm FOLDER] [--targets 16 96] [--steps 1 3]
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lightning as L
import torch

from lit_prompt.cli.run import quiet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import EntropyMatched
from lit_prompt.models import HardPrompt, PromptModule, SoftPrompt
from lit_prompt.search import GCG, HotFlip, Searcher, SharedSearch, TokenStart

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.device import pretend

LENGTH = 4


def _hard(searcher: Searcher) -> Callable[[int], PromptModule]:
    return lambda steps: HardPrompt(
        length=LENGTH,
        steps=steps,
        searcher=searcher,
        start=TokenStart(kind="random"),
        kl_tolerance=0.0,
        screening="never",
    )


SEARCHES: dict[str, Callable[[int], PromptModule]] = {
    "soft, Adam": lambda steps: SoftPrompt(length=LENGTH, steps=steps, kl_tolerance=0.0),
    "GCG": _hard(GCG(width=8, top_k=32)),
    "shared (default)": _hard(SharedSearch(width=4, top_k=32)),
    "HotFlip": _hard(HotFlip(num_candidates=8)),
}


class Asked(NamedTuple):
    """What a device was asked for; no operations where they are not counted."""

    operations: int | None
    waits: int


def on_simulated(fit: Callable[[], None]) -> Asked:
    """Counts on the simulated device."""
    before = pretend.counts()
    fit()
    after = pretend.counts()
    return Asked(after.operations - before.operations, after.waits - before.waits)


def on_cuda(fit: Callable[[], None]) -> Asked:
    """Counts torch's warnings of waits."""
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", message=".*synchronizing CUDA operation")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            fit()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Asked(None, sum("synchronizing CUDA operation" in str(each.message) for each in said))


def fitted(
    make: Callable[[int], PromptModule], lm: str, targets: int, steps: int, accelerator: str
) -> Callable[[], None]:
    """What searches prompts of some targets together."""
    data = TargetDataModule([EntropyMatched([1.0, 3.0], targets // 2)], chunk_size=targets, lm=lm)
    trainer = L.Trainer(
        accelerator=accelerator, devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    return lambda: trainer.fit(make(steps), datamodule=data)


def main() -> None:
    """Counts and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--targets", type=int, nargs="+", default=[16, 96])
    parser.add_argument("--steps", type=int, nargs=2, default=[1, 3], help="of the shorter and of the longer search")
    arguments = parser.parse_args()
    quiet()
    devices: dict[str, Callable[[Callable[[], None]], Asked]] = {}
    if (why_not := pretend.why_not()) is None:
        pretend.register()
        devices[pretend.NAME] = on_simulated
    else:
        print(why_not)
    if torch.cuda.is_available():
        devices["cuda"] = on_cuda
    few, many = arguments.steps
    print(f"{Path(arguments.lm).name}, prompts of {LENGTH}, searchers that try few candidates a step")
    print(f"{'search':<18}{'device':<10}{'targets':>8}{'operations a step':>19}{'waits a step':>14}")
    for name, make in SEARCHES.items():
        for device, count in devices.items():
            for targets in arguments.targets:
                short, long = (count(fitted(make, arguments.lm, targets, steps, device)) for steps in (few, many))
                operations, waits = (
                    "-" if a is None or b is None else f"{(a - b) / (many - few):.1f}"
                    for a, b in zip(long, short, strict=True)
                )
                print(f"{name:<18}{device:<10}{targets:>8}{operations:>19}{waits:>14}", flush=True)


if __name__ == "__main__":
    main()
