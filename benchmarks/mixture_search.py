"""What searches for mixtures reach with as many passes through the LM as a search for one prompt.

For random, outlier and LM-made targets and each number of components: the mean KL, of soft prompts at equal steps, of
hard ones at equal forward passes (``--passes``; starts, and what is read at the ends of rounds, are counted). Beside
them the KL of the best component alone, and the floor that holds for a single prompt of any kind.

    python benchmarks/mixture_search.py [--lm data/lms/tales-llama] [--kind hard soft] [--targets 4] [--passes 2400]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import lightning as L
import torch

from lit_prompt.cli.run import quiet
from lit_prompt.data import Target, TargetSet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import EntropyMatched, FromLM, Outlier
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.models import HardPrompt, PromptModule, SoftPrompt

COMPONENTS = (1, 2, 4, 8, 16)


def families(lm: str, entropies: list[float], count: int, work: Path) -> dict[str, Path]:
    """Saved targets of each family."""
    vocabulary = Vocabulary.load(lm, LMOptions())
    made = {
        "random": EntropyMatched(entropies, count),
        "outlier": Outlier(entropies, count),
        "LM-made": FromLM(count=count * len(entropies), partners=False, name="own_lm"),
    }
    found = {}
    for name, family in made.items():
        targets = [target for target in family.targets(vocabulary) if isinstance(target, Target)]
        TargetSet.write(work / name, iter(targets), vocabulary.size, vocabulary.fingerprint, lm)
        found[name] = work / name
    return found


def search(module: PromptModule, lm: str, targets: Path) -> dict[str, float]:
    """Searches, evaluates, and gives means over targets."""
    data = TargetDataModule(load=targets, lm=lm, chunk_size=64)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        devices=1, enable_model_summary=False,
    )  # fmt: skip
    began = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - began
    batches = data.evaluation_dataloader()
    parts = [module.evaluator.columns(batch, module.results)[0] for batch in batches]
    names = ("kl", "kl_single", "kl_floor", "forward_passes")
    every = {name: [x for part in parts for x in part.get(name, part["kl"])] for name in names}
    return {name: sum(values) / len(values) for name, values in every.items()} | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--kind", nargs="+", choices=("hard", "soft"), default=["hard", "soft"])
    parser.add_argument("--family", nargs="+", default=["random", "outlier", "LM-made"])
    parser.add_argument("--components", type=int, nargs="+", default=COMPONENTS)
    parser.add_argument("--targets", type=int, default=2, help="of each entropy")
    parser.add_argument("--entropies", type=float, nargs="+", default=[1, 2, 3, 4, 5, 6, 7])
    parser.add_argument("--passes", type=int, default=2400, help="of a hard search, for each target")
    parser.add_argument("--steps", type=int, default=480, help="of a soft search, for each target")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{Path(options.lm).name}\n\n| | | {' | '.join(map(str, options.components))} | floor of one |")
    print("|---|---|" + "---|" * (len(options.components) + 1), flush=True)
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        sets = families(options.lm, options.entropies, options.targets, Path(folder))
        for kind in options.kind:
            for name in options.family:
                found = []
                for components in options.components:
                    module: PromptModule = SoftPrompt(length=3, steps=options.steps, components=components)
                    if kind == "hard":
                        module = HardPrompt(
                            length=10, steps=options.passes, max_forward_passes=options.passes, components=components
                        )
                    found.append(search(module, options.lm, sets[name]))
                for told in ("kl", "kl_single"):
                    label = "mixture" if told == "kl" else "its best prompt"
                    cells = " | ".join(f"{each[told]:.2f}" for each in found)
                    print(f"| {kind}, {name} | {label} | {cells} | {found[0]['kl_floor']:.2f} |", flush=True)
                passes = ", ".join(f"{each['forward_passes']:.0f} in {each['seconds']:.0f} s" for each in found)
                print(f"<!-- passes of a target: {passes} -->", flush=True)


if __name__ == "__main__":
    main()
