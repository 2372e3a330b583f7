"""Hard prompts: our default search, our plain GCG and nanoGCG, side by side in one run.

Three questions, each over the same targets, 20 tokens, the embedded LM:

1. One target at a time, one-hot: candidates per second and KL of our GCG and of nanoGCG, with the same settings,
   steps and tokens (ASCII). For a one-hot target nanoGCG's loss is the KL.
2. The same targets together: how long our default search takes, per target, to reach what nanoGCG reached.
3. One-hot, random and LM-made targets, 1, 8 and 64 together: KL against seconds and forward passes per target, of our
   default and of our GCG; the excess over the certified floor, at equal time.

Targets of the methods alternate, so that a machine that slows down for a while slows all. nanoGCG needs an environment
of its own (``make bench-peers`` makes it); without one, questions 1 and 2 are left out.

    python benchmarks/hard.py [--lm FOLDER] [--peer PYTHON] [--targets 16] [--together 1 8 16 64] [--seconds 4]
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it

import lightning as L
import numpy as np
import torch

from lit_prompt.cli.run import quiet
from lit_prompt.data import Target, TargetSet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.families import EntropyMatched, FromLM, OneHot
from lit_prompt.data.families.base import TargetFamily
from lit_prompt.lm import AllowedTokens, FrozenLM, LMOptions, Vocabulary, load_causal_lm
from lit_prompt.models import HardPrompt
from lit_prompt.models.floors import Floors
from lit_prompt.search import GCG, Searcher, SharedSearch, TokenStart

LENGTH, WIDTH, TOP_K = 20, 512, 256
TOKENS = AllowedTokens("ascii")  # as nanoGCG has it by default


KINDS: dict[str, Callable[[int], TargetFamily]] = {
    "one-hot": lambda count: OneHot(count=count, seed=1),
    "random": lambda count: EntropyMatched([1.0, 3.0, 5.0, 7.0], max(count // 4, 1)),
    "LM-made": lambda count: FromLM(count=count, partners=False, name="own_lm"),
}


class Recorder(L.Callback):
    """Best KL of each target after each step; ends the search when its time is over.

    Args:
        clock: gives seconds.
        limit: seconds of the search.

    Attributes:
        seconds: since the search began, its start included.
        passes: forward passes per target.
        kl: nats, a row a step.
    """

    def __init__(self, clock: Callable[[], float], limit: float) -> None:
        self._clock, self._limit = clock, limit
        self.seconds: list[float] = []
        self.passes: list[float] = []
        self.kl: list[list[float]] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock: the LM is loaded, the targets are built."""
        self._started = self._clock()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds a point."""
        assert isinstance(pl_module, HardPrompt)
        self.seconds.append(self._clock() - self._started)
        current = pl_module.under_search()
        assert current is not None
        self.passes.append(float(current[1].forward_passes.double().mean()))
        self.kl.append(current[1].kl.tolist())
        trainer.should_stop = self.seconds[-1] > self._limit

    def at(self, seconds: float) -> np.ndarray:
        """KL of each target after so many seconds; infinite before the first step."""
        reached = [kl for s, kl in zip(self.seconds, self.kl, strict=True) if s <= seconds]
        return np.array(reached[-1] if reached else [np.inf] * len(self.kl[0]))

    def passes_at(self, seconds: float) -> float:
        """Forward passes per target after so many seconds."""
        return max((p for s, p in zip(self.seconds, self.passes, strict=True) if s <= seconds), default=0.0)

    def time_of(self, target: int, kl: float) -> float:
        """When a target's KL was at most ``kl``; infinite if it never was."""
        return next((s for s, row in zip(self.seconds, self.kl, strict=True) if row[target] <= kl), np.inf)


class Bench:
    """Runs searches for saved targets.

    Args:
        lm: folder of the LM.
        work: an empty folder.
        clock: gives seconds.
    """

    def __init__(self, lm: str, work: Path, clock: Callable[[], float]) -> None:
        self.lm = lm
        self._clock = clock
        self.vocabulary = Vocabulary.load(lm, LMOptions())
        self._work = work
        self.at_hand = FrozenLM(load_causal_lm(lm, LMOptions()))

    def targets(self, kind: str, count: int) -> list[Target]:
        """Makes targets of a kind."""
        made = KINDS[kind](count).targets(self.vocabulary)
        return [target for target in made if isinstance(target, Target)][:count]

    def save(self, targets: Sequence[Target]) -> Path:
        """Saves targets as a set."""
        folder = self._work / str(len(list(self._work.iterdir())))
        TargetSet.write(folder, iter(targets), self.vocabulary.size, self.vocabulary.fingerprint, self.lm)
        return folder

    def fit(self, targets: Sequence[Target], model: HardPrompt, recorder: L.Callback) -> None:
        """Searches targets together."""
        data = TargetDataModule(load=self.save(targets), lm=self.lm, chunk_size=len(targets))
        trainer = L.Trainer(
            max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False, devices=1,
            enable_model_summary=False, callbacks=[recorder],
        )  # fmt: skip
        trainer.fit(model, datamodule=data)

    def search(
        self, targets: Sequence[Target], searcher: Searcher, steps: int = 100_000, seconds: float = np.inf
    ) -> Recorder:
        """Searches targets together; GCG starts from its " x x x", our default from its bank."""
        recorder = Recorder(self._clock, seconds * len(targets))
        start = TokenStart(kind="text", text=" x") if isinstance(searcher, GCG) else TokenStart()
        model = HardPrompt(LENGTH, steps, searcher, start, TOKENS, kl_tolerance=0.0)
        self.fit(targets, model, recorder)
        return recorder

    def floors(self, targets: Sequence[Target]) -> np.ndarray:
        """Certified floors, ``[target]``."""
        found = Floors(self.at_hand, None).of(TargetSet(self.save(targets)).batch(range(len(targets))))
        return np.array([floor.kl_floor for floor in found if floor is not None])


def against_peer(bench: Bench, targets: Sequence[Target], peer: subprocess.Popen[str], steps: int) -> dict[str, Any]:
    """Our GCG and nanoGCG on one target after another; then our default on all of them together."""
    rows = []
    for target in targets:
        token = int(target.dense(bench.vocabulary.size).argmax())
        wish = {"target": bench.vocabulary.text(token), "steps": steps, "width": WIDTH, "topk": TOP_K}
        assert peer.stdin is not None
        assert peer.stdout is not None
        peer.stdin.write(json.dumps(wish | {"length": LENGTH, "seed": 0}) + "\n")
        peer.stdin.flush()
        theirs = json.loads(peer.stdout.readline())
        ours = bench.search([target], GCG(width=WIDTH, top_k=TOP_K), steps)
        rows.append(
            {
                "target": wish["target"],
                "peer_seconds": theirs["seconds"],
                "peer_kl": min(theirs["losses"]),
                "gcg_seconds": ours.seconds[-1],
                "gcg_kl": ours.kl[-1][0],
            }
        )
        print(f"  {rows[-1]}", flush=True)
    limit = statistics.median(row["peer_seconds"] for row in rows) / 4
    together = bench.search(targets, SharedSearch(), seconds=limit)
    for number, row in enumerate(rows):
        row["default_seconds"] = together.time_of(number, row["peer_kl"]) / len(targets)
        row["default_kl"] = together.kl[-1][number]
    return {"rows": rows, "default_total_seconds": together.seconds[-1]}


def print_peer(found: dict[str, Any], steps: int) -> None:
    """Prints questions 1 and 2."""
    rows = found["rows"]

    def median(key: str) -> float:
        return statistics.median(row[key] for row in rows)

    tried = steps * WIDTH
    speed = statistics.median(row["peer_seconds"] / row["gcg_seconds"] for row in rows)
    sooner = statistics.median(row["peer_seconds"] / row["default_seconds"] for row in rows)
    print(f"\n{len(rows)} one-hot targets, {steps} steps of {WIDTH} candidates; medians over targets\n")
    print("| | seconds per target | candidates/s | KL |\n|---|---|---|---|")
    for name, key in (("nanoGCG", "peer"), ("our GCG, one at a time", "gcg")):
        seconds = median(f"{key}_seconds")
        print(f"| {name} | {seconds:.2f} | {tried / seconds:.0f} | {median(f'{key}_kl'):.3f} |")
    print(f"| our default, all together, until nanoGCG's KL | {median('default_seconds'):.3f} | | |")
    print(f"\nour GCG: {speed:.1f} times the candidates per second; lower or equal KL for")
    print(f"{sum(row['gcg_kl'] <= row['peer_kl'] for row in rows)} of {len(rows)} targets.")
    print(f"our default: nanoGCG's KL {sooner:.0f} times sooner per target")


def equal_time(bench: Bench, count: int, seconds: float, grid: Sequence[float]) -> list[dict[str, Any]]:
    """Our default and our GCG on the same targets for the same time."""
    rows = []
    for kind in KINDS:
        targets = bench.targets(kind, count)
        floors = bench.floors(targets)
        curves = {
            name: bench.search(targets, searcher, seconds=seconds)
            for name, searcher in (("GCG", GCG(width=WIDTH, top_k=TOP_K)), ("default", SharedSearch()))
        }
        for moment in (m for m in grid if m <= seconds):
            excess = {name: curve.at(moment * count) - floors for name, curve in curves.items()}
            with np.errstate(invalid="ignore"):
                ratio = np.median(excess["default"] / excess["GCG"])
                ratio_of_means = excess["default"].mean() / excess["GCG"].mean()
            rows.append(
                {
                    "targets": count,
                    "kind": kind,
                    "seconds": moment,
                    **{f"{name}_kl": float(np.median(curve.at(moment * count))) for name, curve in curves.items()},
                    **{f"{name}_passes": curve.passes_at(moment * count) for name, curve in curves.items()},
                    "ratio": float(ratio),
                    "ratio_of_means": float(ratio_of_means),
                }
            )
            print(_row(rows[-1]), flush=True)
    return rows


HEADER = (
    "| targets | kind | seconds per target | GCG: KL | default: KL | GCG: passes | default: passes | excess, ratio | "
    "ratio of means |\n|---|---|---|---|---|---|---|---|---|"
)


def _row(row: dict[str, Any]) -> str:
    def shown(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if np.isfinite(value) else "-"  # before a first step there is nothing

    kl = " | ".join(shown(row[f"{name}_kl"], 3) for name in ("GCG", "default"))
    passes = " | ".join(shown(row[f"{name}_passes"], 0) for name in ("GCG", "default"))
    started = np.isfinite([row["GCG_kl"], row["default_kl"]]).all()
    ratio = f"{shown(row['ratio'], 2)} | {shown(row['ratio_of_means'], 2)}" if started else "- | -"
    return f"| {row['targets']} | {row['kind']} | {row['seconds']:g} | {kl} | {passes} | {ratio} |"


def main() -> None:
    """Runs and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="data/lms/tales-llama")
    parser.add_argument("--peer", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--targets", type=int, default=16, help="of questions 1 and 2")
    parser.add_argument("--peer-steps", type=int, default=30)
    parser.add_argument("--together", type=int, nargs="*", default=[1, 8, 16, 64])
    parser.add_argument("--seconds", type=float, default=4.0, help="per target, in question 3")
    parser.add_argument("--longest", type=float, default=64.0, help="seconds of one search in question 3")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count the processes' own time, which a busy machine does not stretch; "
        "for one thread (OMP_NUM_THREADS=1) alone"
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="a file for all numbers, as JSON")
    args = parser.parse_args()
    quiet()
    clock = time.process_time if args.cpu_time else time.perf_counter
    everything: dict[str, Any] = {"threads": torch.get_num_threads(), "clock": clock.__name__}
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(args.lm, Path(work), clock)
        if args.peer.exists():
            peer_args = [args.lm, str(torch.get_num_threads()), clock.__name__]
            command = [str(args.peer), "benchmarks/peers/nanogcg_targets.py", *peer_args]
            targets = bench.targets("one-hot", args.targets)
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as peer:
                everything["peer"] = against_peer(bench, targets, peer, args.peer_steps)
                assert peer.stdin is not None
                peer.stdin.close()
            print_peer(everything["peer"], args.peer_steps)
        else:
            print(f"{args.peer} is not there: nanoGCG is left out (make bench-peers installs it)")
        print(f"\nequal time, {torch.get_num_threads()} threads, {clock.__name__}; medians over targets\n\n{HEADER}")
        everything["equal_time"] = []
        for count in args.together:
            seconds = min(args.seconds, args.longest / count)
            everything["equal_time"] += equal_time(bench, count, seconds, (0.25, 0.5, 1.0, 2.0, 4.0))
    if args.out is not None:
        args.out.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
