"""A run of 100,000 targets over 1 to 64 processes: what its bookkeeping takes, with searches that do nothing.

Processes share a run through the project's own leases and chunk files, as a fit does; of a search there are a small
state and result alone. Then: how long a process takes to find the 1 % of the chunks that a crash has left, reading all
that was found, and printing, writing and reporting the results of so many targets. Times of bookkeeping are those of
the cores that it keeps busy or waiting, ``wall-clock time x min(processes, cores) / targets``.

    python benchmarks/scale.py [--targets 100000] [--chunk-sizes 1 64] [--processes 1 8 64] [--skip-report]
"""

import argparse
import gc
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch

from lit_prompt.data import Target, TargetSet
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.data.run_folder import RunFolder
from lit_prompt.data.shard import Shard
from lit_prompt.models.run_chunks import RunChunks
from lit_prompt.records.prompts import prompts_digest, write_prompts
from lit_prompt.records.results import RESULTS, Columns, result_table, with_prompts
from lit_prompt.results.comparisons import comparisons
from lit_prompt.results.console import silence
from lit_prompt.results.results_shown import print_comparisons, print_prompts, print_results, print_unfinished
from lit_prompt.search import BestSoFar, SearchResults

#: seconds of a search a target, of which the bookkeeping is to be under 1 %
SEARCH = 0.2
LENGTH, STEPS = 10, 100
VOCAB, LISTED = 1000, 4
#: of the chunks, what a crash has left to do
LEFT = 0.01
#: targets that an evaluation takes at a time
PART = 64


class Stub:
    """What a run's chunks ask of a module; its searches end as they begin."""

    lm_path, lm, steps = "stub", SimpleNamespace(fingerprint="stub"), STEPS

    def __init__(self, folder: Path, targets: TargetSet, chunk_size: int) -> None:
        self.trainer = SimpleNamespace(callbacks=[RunFolder(folder)], world_size=1, is_global_zero=True)
        self.data = StubData(targets, chunk_size)
        prompts = torch.randint(VOCAB, (chunk_size, LENGTH))
        self._best = BestSoFar(prompts, kl_tolerance=0.0, patience=None)
        self._best.observe(torch.rand(chunk_size), prompts, torch.ones(chunk_size, dtype=torch.long))

    def settings(self) -> dict[str, Any]:
        """What would define the search."""
        return {"steps": STEPS, "length": LENGTH, "seed": 0}

    def no_results(self, tasks: int) -> SearchResults:
        """Room for what is found for some tasks."""
        return SearchResults(tasks, 1, (LENGTH,), torch.long)

    def search(self, tasks: list[int]) -> None:
        """Takes what was made before for what was found."""
        self._tasks = tasks

    def under_search(self) -> tuple[list[int], BestSoFar]:
        """The tasks of the present chunk, and their bests."""
        return self._tasks, self._best

    def chunk_state(self) -> dict[str, Any]:
        """Where the search stands."""
        return {"best": self._best.state_dict()}


class StubData(TargetDataModule):
    """Targets that were opened before, for no LM."""

    def __init__(self, targets: TargetSet, chunk_size: int) -> None:
        L.LightningDataModule.__init__(self)
        self.targets, self.chunk_size = targets, chunk_size
        self.vocabulary: Any = SimpleNamespace(front_ids=[])


class Measured(NamedTuple):
    """What a process took."""

    seconds: float  #: wall-clock time
    cpu: float  #: seconds
    peak_mib: float


def in_process(work: Callable[[], object]) -> int:
    """Starts a process that does something; its id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> resource.struct_rusage:
    """What a process has used, once it has ended."""
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"a process ended with status {os.waitstatus_to_exitcode(status)}")
    return usage


def measured(*works: Callable[[], object]) -> Measured:
    """Has processes do something side by side; wall-clock time, CPU time of all, and memory of the largest."""
    started = time.perf_counter()
    usages = [ended(pid) for pid in [in_process(work) for work in works]]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Measured(time.perf_counter() - started, cpu, max(usage.ru_maxrss for usage in usages) / 1024)


# ---- the run ----


def targets_of(count: int) -> Iterator[Target]:
    """Sparse targets."""
    rng = np.random.default_rng(0)
    for i in range(count):
        ids = torch.from_numpy(rng.choice(VOCAB, LISTED, replace=False))
        yield Target.from_weights(f"sparse/{i}", "sparse", ids, torch.from_numpy(rng.random(LISTED)), VOCAB, rest=0.1)


def chunks_of(run: Path, targets: TargetSet, chunk_size: int, shard: Shard) -> tuple[Stub, RunChunks]:
    """A process's view of a run, as a fit begins with."""
    module: Any = Stub(run, targets, chunk_size)
    chunks = RunChunks(module)
    chunks.begin(module.data.num_chunks, shard)
    return module, chunks


def take_part(run: Path, targets: TargetSet, chunk_size: int, shard: Shard) -> None:
    """Does what is left of a run."""
    module, chunks = chunks_of(run, targets, chunk_size, shard)
    while chunks.next():
        assert chunks.chunk is not None
        chunks.take_up()
        module.search(module.data.chunks[chunks.chunk])
        chunks.finish()
    chunks.close()


def take_first(run: Path, folder: Path, chunk_size: int) -> None:
    """Begins with what is left of a run, from its targets on."""
    _, chunks = chunks_of(run, TargetSet(folder), chunk_size, Shard())
    assert chunks.next()
    chunks.take_up()


def read_all(run: Path, targets: TargetSet, chunk_size: int) -> None:
    """Reads what was found."""
    module: Any = Stub(run, targets, chunk_size)
    results, _ = RunChunks(module).everything()
    assert results.searched.all()


def crash(run: Path, targets: TargetSet, chunk_size: int) -> None:
    """Makes a run of which 99 % of the chunks are there, in copies of one."""
    module, chunks = chunks_of(run, targets, chunk_size, Shard())
    assert chunks.next()
    module.search(module.data.chunks[0])
    chunks.finish()
    chunks.close()
    (first,) = (run / "chunks").iterdir()
    content, count = first.read_bytes(), module.data.num_chunks
    left = random.Random(0).sample(range(1, count), max(1, round(LEFT * count)))
    for chunk in set(range(1, count)) - set(left):
        first.with_name(first.name.replace("chunk_0", f"chunk_{chunk}")).write_bytes(content)


# ---- results ----


def parts_of(count: int) -> Iterator[Columns]:
    """Columns of an evaluation: a third each of plain random targets, of outlier targets and of their partners."""
    rng = np.random.default_rng(0)
    same = {
        "sampling": None, "asking_text": None, "method": "gcg", "objective": "kl", "prompt_length": LENGTH,
        "in_front": "", "context_before": "", "context_after": "", "unprompted_text": "<s>", "restarts": 1,
        "steps": STEPS, "forward_passes": 51_200, "stop_reason": "steps", "seed": 0, "lm": "stub",
        "lm_fingerprint": "stub", "split": "train", "weight": 1.0,
    }  # fmt: skip
    uniform = np.log(VOCAB)
    for start in range(0, count, PART):
        size = min(PART, count - start)
        rows = range(start, start + size)
        kinds = ["outlier" if i % 3 == 0 else "random" for i in rows]
        entropy = np.round(rng.choice(np.linspace(0.1, uniform - 0.1, 60), size), 3)
        floor, above, more = rng.gamma(2.0, 0.02, size), rng.gamma(2.0, 0.05, size), rng.gamma(2.0, 0.5, size)
        kl = floor + above
        yield {
            **{name: [value] * size for name, value in same.items()},
            "target_id": [f"{kind}/{i}" for kind, i in zip(kinds, rows, strict=True)],
            "family": kinds,
            "partner_of": [f"outlier/{i - 1}" if i % 3 == 1 else None for i in rows],
            "target_fingerprint": [f"{i:016x}" for i in rows],
            "task": [None] * size,
            "prompt_text": [" ".join(f"word{n}" for n in rng.integers(0, VOCAB, LENGTH)) for _ in rows],
            "whole_text": [" ".join(f"word{n}" for n in rng.integers(0, VOCAB, LENGTH)) for _ in rows],
            **{
                name: values.tolist()
                for name, values in {
                    "entropy": entropy, "kl": kl, "kl_floor": floor, "excess": above, "excess_norm": above / 3,
                    "excess_prompt": 2 * above / 3, "kl_uniform": uniform - entropy, "kl_unprompted": kl + more,
                    "kl_best_random": kl + more / 2, "kl_best_natural": kl + more / 3, "draws_to_tell": 6 / kl,
                    "prompt_entropy": entropy, "reverse_kl": 1.1 * kl, "js": kl / 4, "tv": np.sqrt(kl / 2).clip(0, 1),
                    "top10_overlap": rng.random(size), "objective_value": kl, "kl_text": kl, "kl_worst_restart": kl,
                    "kl_restart_std": 0 * kl, "seconds": SEARCH * rng.gamma(9.0, 1 / 9, size),
                }.items()
            },
        }  # fmt: skip


def print_all(run: Path, count: int) -> None:
    """What a test does with what it has evaluated, but for the LM."""
    table = result_table(list(parts_of(count)))
    with silence():
        print_results(table)
        print_prompts(table)
        print_comparisons(comparisons(table))
        print_unfinished(table, None)
    prompts = {name: np.full(LENGTH, i) for i, name in enumerate(table["target_id"].to_pylist())}
    about = {"lm": "stub", "method": "gcg"}
    run.mkdir(parents=True)
    write_prompts(prompts, about, run / "prompts.safetensors")
    RESULTS.write(with_prompts(table, prompts_digest(prompts, about)), run / "results.parquet")


def report(run: Path) -> Measured:
    """``lit_prompt report`` on the results."""
    command = [sys.executable, "-m", "lit_prompt", "report", str(run), "--out", str(run / "report")]
    started = time.perf_counter()
    usage = ended(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid)
    return Measured(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


# ---- tables ----


def print_row(*cells: object) -> None:
    """Prints a row of a Markdown table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_head(title: str, *names: str) -> None:
    """Prints a title and the first rows of a table."""
    print(f"\n{title}\n", flush=True)
    print_row(*names)
    print_row(*["---"] * len(names))


@contextmanager
def folder_of_its_own(parent: str | None) -> Iterator[Path]:
    """A folder for a while."""
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        yield Path(temporary)


def measure_bookkeeping(folder: Path, arguments: argparse.Namespace) -> None:
    """Searches, a crash and reading what was found."""
    started = time.perf_counter()
    targets = TargetSet.write(folder / "targets", targets_of(arguments.targets), VOCAB, "stub")
    print(f"{arguments.targets} sparse targets, written in {time.perf_counter() - started:.1f} s; "
          f"{os.cpu_count()} cores")  # fmt: skip
    read: dict[int, Measured] = {}
    print_head("Bookkeeping", "chunk size", "processes", "seconds", "CPU ms a target", "ms a target",
               f"share of {SEARCH} s", "files", "MiB on disk", "peak MiB")  # fmt: skip
    for chunk_size in arguments.chunk_sizes:
        for processes in arguments.processes:
            with folder_of_its_own(arguments.folder) as run:
                shards = [Shard(index, processes) for index in range(processes)]
                took = measured(*(partial(take_part, run, targets, chunk_size, shard) for shard in shards))
                files = [path.stat() for path in run.rglob("*") if path.is_file()]
                each = 1e3 * took.seconds * min(processes, os.cpu_count() or 1) / arguments.targets
                print_row(chunk_size, processes, f"{took.seconds:.1f}", f"{1e3 * took.cpu / arguments.targets:.3f}",
                          f"{each:.3f}", f"{each / SEARCH / 10:.2f} %", len(files),
                          f"{sum(file.st_blocks for file in files) / 2**11:.0f}", f"{took.peak_mib:.0f}")  # fmt: skip
                if chunk_size not in read:
                    read[chunk_size] = measured(partial(read_all, run, targets, chunk_size))
    print_head("After a crash, and at the end; seconds", "chunk size", f"first chunk of the {LEFT:.0%} that are left",
               "peak MiB", "everything that was found", "peak MiB")  # fmt: skip
    for chunk_size, found in read.items():
        with folder_of_its_own(arguments.folder) as run:
            crash(run, targets, chunk_size)
            first = measured(partial(take_first, run, folder / "targets", chunk_size))
        print_row(chunk_size, f"{first.seconds:.2f}", f"{first.peak_mib:.0f}", f"{found.seconds:.1f}",
                  f"{found.peak_mib:.0f}")  # fmt: skip


def measure_results(folder: Path, count: int) -> None:
    """Prints, writes and reports results."""
    print_head(f"Results of {count} targets", "what", "seconds", "CPU seconds", "peak MiB")
    run = folder / "runs" / "version_0"
    for name, took in {
        "imports": measured(lambda: None),
        "test: print and write": measured(partial(print_all, run, count)),
        "report": None,
    }.items():
        took = took or report(run)
        print_row(name, f"{took.seconds:.1f}", f"{took.cpu:.1f}", f"{took.peak_mib:.0f}")


def main() -> None:
    """Measures and prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=100_000)
    parser.add_argument("--chunk-sizes", type=int, nargs="+", default=[1, 64], help="targets of a chunk")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--skip-run", action="store_true", help="measure results alone")
    parser.add_argument("--skip-report", action="store_true", help="measure the run alone")
    parser.add_argument("--folder", help="where all is written for a while; the system's by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as processes are many
    gc.freeze()  # what they share stays so
    with folder_of_its_own(arguments.folder) as folder:
        if not arguments.skip_run:
            measure_bookkeeping(folder, arguments)
        if not arguments.skip_report:
            measure_results(folder, arguments.targets)


if __name__ == "__main__":
    main()
