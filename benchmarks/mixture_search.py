"""What searches for mixtures reach with as many passes through the LM as a search for one prompt.

For random, outlier, LM-made and a user's targets (dice), searched together, and each number of components: the mean KL
of a family, of soft prompts at equal steps, of hard ones at equal forward passes (``--passes``; starts, and what is
read at the ends of rounds, are counted). Beside them the KL of the best component alone, and the floor that holds for a
single prompt of any kind.

    python benchmarks/mixture_search.py [--lm data/lms/tales-llama] [--kind hard soft] [--targets 2] [--passes 2400]
"""

import argparse
import os
import tempfile
import time
from itertools import chain
from pathlib import Path

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import lightning as L
import torch

from lit_prompt.cli.run import quiet
from lit_prompt.data import Target, TargetSet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import EntropyMatched, FromFile, FromLM, Outlier
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.models import HardPrompt, PromptModule, SoftPrompt

COMPONENTS = (1, 2, 4, 8, 16)
FAMILIES = ("random", "outlier", "LM-made", "user's")
DIE = Path("data/targets/die.jsonl")


def made_targets(lm: str, entropies: list[float], count: int, folder: Path) -> Path:
    """A saved set of targets of all families."""
    vocabulary = Vocabulary.load(lm, LMOptions())
    families = [
        EntropyMatched(entropies, count, name=FAMILIES[0]),
        Outlier(entropies, count, name=FAMILIES[1]),
        FromLM(count=count * len(entropies), partners=False, name=FAMILIES[2]),
        FromFile(DIE, name=FAMILIES[3]),
    ]
    made = chain.from_iterable(family.targets(vocabulary) for family in families)
    targets = (target for target in made if isinstance(target, Target))
    TargetSet.write(folder, targets, vocabulary.size, vocabulary.fingerprint, lm)
    return folder


def search(module: PromptModule, lm: str, targets: Path) -> dict[str, dict[str, float]]:
    """Searches, evaluates, and gives means over the targets of each family, and the seconds of all."""
    data = TargetDataModule(load=targets, lm=lm, chunk_size=256)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        devices=1, enable_model_summary=False,
    )  # fmt: skip
    began = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - began
    parts = [module.evaluator.columns(batch, module.results)[0] for batch in data.evaluation_dataloader()]
    every: dict[str, list[dict[str, float]]] = {}
    for part in parts:
        for i, family in enumerate(part["family"]):
            own = {name: part.get(name, part["kl"])[i] for name in ("kl", "kl_single", "kl_floor", "forward_passes")}
            every.setdefault(family, []).append(own)
    return {
        family: {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} | {"seconds": seconds}
        for family, rows in every.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--kind", nargs="+", choices=("hard", "soft"), default=["hard", "soft"])
    parser.add_argument("--components", type=int, nargs="+", default=COMPONENTS)
    parser.add_argument("--targets", type=int, default=2, help="of each entropy; of LM-made ones as many")
    parser.add_argument("--entropies", type=float, nargs="+", default=[1, 2, 3, 4, 5, 6, 7])
    parser.add_argument("--passes", type=int, default=2400, help="of a hard search, for each target")
    parser.add_argument("--steps", type=int, default=480, help="of a soft search, for each target")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{Path(options.lm).name}\n\n| | | {' | '.join(map(str, options.components))} | floor of one |")
    print("|---|---|" + "---|" * (len(options.components) + 1), flush=True)
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        targets = made_targets(options.lm, options.entropies, options.targets, Path(folder) / "targets")
        for kind in options.kind:
            found = []
            for components in options.components:
                module: PromptModule = SoftPrompt(length=3, steps=options.steps, components=components)
                if kind == "hard":
                    passes = options.passes
                    module = HardPrompt(length=10, steps=passes, max_forward_passes=passes, components=components)
                found.append(search(module, options.lm, targets))
            for family in FAMILIES:
                for told in ("kl", "kl_single"):
                    label = "mixture" if told == "kl" else "its best prompt"
                    cells = " | ".join(f"{each[family][told]:.2f}" for each in found)
                    floor = found[0][family]["kl_floor"]
                    print(f"| {kind}, {family} | {label} | {cells} | {floor:.2f} |", flush=True)
                own = [each[family] for each in found]
                passes_made = ", ".join(f"{each['forward_passes']:.0f}" for each in own)
                print(f"<!-- {family}: passes of a target {passes_made} -->", flush=True)
            seconds = ", ".join(f"{each[FAMILIES[0]]['seconds']:.0f}" for each in found)
            print(f"<!-- {kind}: {seconds} s -->", flush=True)


if __name__ == "__main__":
    main()
