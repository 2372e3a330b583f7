"""Building sets of targets: seconds, peak memory and size on disk.

Entropy-matched targets through the project (``TargetSet.write``, streamed to disk) and by the obvious loop: one target
at a time, with autograd and torch's own Adam, to the same tolerance, all kept in memory. The loop is run for a few
targets with entropies over the same range; its seconds and its memory for all of them are extrapolated from those.
Rounds of both alternate and the medians are compared, so that a machine that slows down for a while slows both.

Sparse targets (some tokens and a rest) on disk and in a batch, beside what as many dense ones would take.

Peak memory is that of a fresh process that builds; what it holds once everything is imported is shown beside it.

    python benchmarks/targets.py [--targets 10000] [--vocab 4096] [--sparse 100000] [--sparse-vocab 128000]
"""

import argparse
import json
import math
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.families import EntropyMatched
from lit_prompt.data.families.base import entropy_grid
from lit_prompt.functional import one_thread
from lit_prompt.lm import Vocabulary

PER_ENTROPY = 8
TOLERANCE = 1e-3


def loop_target(logits: torch.Tensor, wanted: float) -> torch.Tensor:
    """The obvious descent on (H - h)^2: Adam until it is near or past h, then Gauss-Newton steps."""
    z = logits.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=0.1)
    start = 0.0
    while True:
        error = torch.special.entr(z.softmax(-1)).sum() - wanted
        start = start or math.copysign(1.0, error.item())
        if abs(error.item()) <= 0.02 or error.item() * start < 0:
            break
        adam.zero_grad()
        error.square().backward()
        adam.step()
    while abs(error.item()) > 0.1 * TOLERANCE:
        (gradient,) = torch.autograd.grad(error, z)
        step = error.detach() / gradient.square().sum() * gradient
        z = (z.detach() - step / step.abs().max().clamp_min(1.0)).requires_grad_()
        error = torch.special.entr(z.softmax(-1)).sum() - wanted
    return z.detach().log_softmax(-1)


def run_loop(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    entropies = entropy_grid(arguments.loop_targets, arguments.vocab, "benchmark")
    started = time.perf_counter()
    starts = (torch.randn(arguments.vocab, generator=torch.Generator().manual_seed(i)) for i in range(len(entropies)))
    with one_thread():  # as the project does; several are slower for rows as short as these
        kept = [loop_target(start, h) for start, h in zip(starts, entropies, strict=True)]
    return {"seconds": time.perf_counter() - started, "kept": len(kept), "peak_mib": _memory_mib("VmHWM")}


def run_build(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    family = EntropyMatched(math.ceil(arguments.targets / PER_ENTROPY), PER_ENTROPY, tolerance=TOLERANCE)
    return _written(folder, family.targets(Vocabulary(None, arguments.vocab)), arguments.vocab)


def run_sparse(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    return _written(folder, sparse_targets(arguments), arguments.sparse_vocab)


def sparse_targets(arguments: argparse.Namespace) -> Iterator[Target]:
    rng = np.random.default_rng(0)
    for i in range(arguments.sparse):
        ids = torch.from_numpy(rng.choice(arguments.sparse_vocab, arguments.listed, replace=False))
        weights = torch.from_numpy(rng.random(arguments.listed))
        yield Target.from_weights(f"sparse/{i}", "sparse", ids, weights, arguments.sparse_vocab, rest=0.1)


def _written(folder: Path, targets: Iterator[Target], vocab_size: int) -> dict[str, float]:
    started = time.perf_counter()
    made = TargetSet.write(folder, targets, vocab_size, "benchmark")
    seconds, peak = time.perf_counter() - started, _memory_mib("VmHWM")
    some = np.linspace(0, len(made) - 1, 64, dtype=int).tolist()
    started = time.perf_counter()
    made.batch(some)
    batch_ms = 1e3 * (time.perf_counter() - started)
    disk = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    return {"seconds": seconds, "peak_mib": peak, "disk_mib": disk, "batch_ms": batch_ms}


RUNS = {"loop": run_loop, "build": run_build, "sparse": run_sparse}


def _memory_mib(which: str) -> float:
    """Resident memory of this process now (``VmRSS``) or at its peak (``VmHWM``)."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(rf"{which}:\s*(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _child(arguments: argparse.Namespace) -> None:
    import datasets  # noqa: F401 - imported before memory is measured

    before = _memory_mib("VmRSS")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        result = RUNS[arguments.child](arguments, Path(temporary) / "targets")
    print(json.dumps({**result, "before_mib": before}))


def _measure(child: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", child]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=10_000, help="entropy-matched targets")
    parser.add_argument("--vocab", type=int, default=4096, help="their |V|")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-targets", type=int, default=48, help="targets that the loop is timed on")
    parser.add_argument("--sparse", type=int, default=100_000, help="sparse targets")
    parser.add_argument("--sparse-vocab", type=int, default=128_000, help="their |V|")
    parser.add_argument("--listed", type=int, default=20, help="tokens that each of them lists")
    parser.add_argument("--folder", help="where the sets are written for a while; the system's by default")
    parser.add_argument("--child", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments)
        return

    count, vocab = arguments.targets, arguments.vocab
    rounds = [(_measure("loop"), _measure("build")) for _ in range(arguments.rounds)]
    loop, build = ({key: statistics.median(r[i][key] for r in rounds) for key in rounds[0][i]} for i in (0, 1))
    print(f"{count} entropy-matched targets, |V| = {vocab}, {PER_ENTROPY} at each entropy from 0.1 to ln|V| - 0.1, "
          f"one thread, median of {arguments.rounds} rounds")  # fmt: skip
    print("                    seconds   peak MiB   imports MiB   disk MiB")
    seconds = loop["seconds"] * count / arguments.loop_targets
    peak = loop["peak_mib"] + (count - arguments.loop_targets) * 4 * vocab / 2**20
    print(f"one at a time   {seconds:11.1f}   {peak:8.0f}   {loop['before_mib']:11.0f}          -   "
          f"(extrapolated from {arguments.loop_targets} targets)")  # fmt: skip
    print(f"streamed to disk{build['seconds']:11.1f}   {build['peak_mib']:8.0f}   {build['before_mib']:11.0f}   "
          f"{build['disk_mib']:8.1f}")  # fmt: skip
    print(f"ratio           {seconds / build['seconds']:11.1f}   {peak / build['peak_mib']:8.1f}", flush=True)

    count, vocab = arguments.sparse, arguments.sparse_vocab
    sparse = _measure("sparse")
    print(f"\n{count} sparse targets of {arguments.listed} tokens and a rest, |V| = {vocab}")
    print("                    seconds   peak MiB   imports MiB   disk MiB   batch of 64, ms")
    print(f"as they are     {sparse['seconds']:11.1f}   {sparse['peak_mib']:8.0f}   {sparse['before_mib']:11.0f}   "
          f"{sparse['disk_mib']:8.1f}   {sparse['batch_ms']:15.1f}")  # fmt: skip
    dense = 4 * count * vocab / 2**20
    print(f"dense would take                                      {dense:11.0f}")
    print(f"ratio                                                 {dense / sparse['disk_mib']:11.0f}")


if __name__ == "__main__":
    main()
