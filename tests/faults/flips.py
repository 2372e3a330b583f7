"""Damages the files of runs at random: what is read of them is what was written, or one line says what is wrong.

``python -m tests.faults.flips --flips 1000`` prints what came of it, file by file.
"""

import argparse
import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from lit_prompt.data.target_set import TargetSet
from lit_prompt.errors import InputError
from lit_prompt.main import main
from lit_prompt.records.floors import FloorCache
from lit_prompt.records.prompt_texts import read_texts
from lit_prompt.records.prompts import read_prompts
from lit_prompt.records.tensors import load_tensors
from lit_prompt.report.runs import read_runs
from tests.conftest import EMBEDDED_LLAMA

MODELS = {
    "soft": "{class_path: SoftPrompt, init_args: {length: 2, steps: 3}}",
    "hard": "{class_path: HardPrompt, init_args: {length: 2, steps: 1, "
    "searcher: {class_path: SharedSearch, init_args: {width: 4}}}}",
}
CONFIG = "model: {model}\ndata: {{families: [{{class_path: OneHot, init_args: {{count: 3, seed: {seed}}}}}]}}\n"
Read = Callable[[], object]


def command(*args: object) -> tuple[int, str]:
    """The exit code of a command that is run in this process, and what it printed."""
    said = io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main([str(arg) for arg in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, said.getvalue()


def make_run(folder: Path, kind: str, seed: int, lm: Path) -> Path:
    """A run that was searched, tested and predicted."""
    config = folder / f"{kind}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(model=MODELS[kind], seed=seed))
    run = folder / "logs" / kind / "version_0"
    asked = [["fit", "--config", config, "--lm", lm, "--logs", folder / "logs"]]
    asked += [[name, "--run", run] for name in ("test", "predict")]
    for args in asked:
        code, said = command(*args)
        assert code == 0, said
    return run


def _plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _targets(folder: Path) -> object:
    targets = TargetSet(folder)
    batch = targets.batch(range(len(targets)))
    facts = [targets.fingerprint, targets.vocabulary, targets.vocab_size, targets.rejected]
    return facts, {name: _plain(value) for name, value in vars(batch).items() if name != "fingerprints"}


def _prompts(run: Path) -> object:
    prompts, about = read_prompts(run / "prompts.safetensors")
    texts = run / "prompts.jsonl"
    found = read_texts(texts, prompts, about["sha256"]) if texts.exists() else None
    return sorted((name, prompt.tobytes()) for name, prompt in prompts.items()), sorted(about.items()), found


def _floors(path: Path) -> object:
    if not (known := vars(FloorCache(path, write=False))["_known"]):
        raise InputError(f"{path}: no floor is used")
    return known


def readers(run: Path) -> Iterator[tuple[Path, Read]]:
    """Every file of a run, and of what it leaves beside it, whose contents matter, with what reads it."""
    for name in ("results.parquet", "predictions.parquet"):
        yield run / name, lambda: vars(read_runs([run])[0])
    yield from ((run / name, lambda: _prompts(run)) for name in ("prompts.safetensors", "prompts.jsonl"))
    yield from ((path, lambda: _targets(run / "targets")) for path in sorted((run / "targets").iterdir()))
    for path in sorted(run.glob("checkpoints/**/*.*t")):
        yield path, lambda path=path: _plain(load_tensors(path, "search again"))
    for path in sorted((run.parents[1] / "floors").glob("*.parquet")):
        yield path, lambda path=path: _floors(path)


def _damages(content: bytes, flips: int, rng: random.Random) -> Iterator[bytes]:
    for _ in range(flips):
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    yield from (content[: rng.randrange(len(content))] for _ in range(min(flips, 5)))
    yield b""


def _outcome(path: Path, content: bytes, read: Read, expected: str) -> str:
    path.unlink()  # the old one may be mapped
    path.write_bytes(content)
    try:
        return "harmless" if repr(read()) == expected else "violations"
    except InputError as error:
        return "violations" if "\n" in str(error) else "refused"
    except Exception as error:  # a traceback for the user
        print(f"{path}: {type(error).__name__}: {error}")
        return "violations"


def exchanged(run: Path, other: Path) -> dict[str, str]:
    """What commands make of each file of another run in the place of a run's own."""
    found = {}
    for name in ("results.parquet", "predictions.parquet", "prompts.safetensors", "targets", "checkpoints/last.ckpt"):
        place, kept = run / name, run / "kept"
        place.rename(kept)
        (shutil.copytree if kept.is_dir() else shutil.copy)(other / name, place)
        asked = ["report", run, "--out", run / "report"]
        if "/" in name or name == "targets":
            asked = ["validate", "--run", run, "--floors", "false"]
        code, said = command(*asked)
        one_line = said.count("lit_prompt: error: ") == 1 and "Traceback" not in said
        found[f"{name} of another run"] = "refused" if code == 2 and one_line else "violations"
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        kept.rename(place)
    return found


def campaign(
    flips: int, seed: int, folder: Path, lm: Path = EMBEDDED_LLAMA, kinds: Iterable[str] = MODELS
) -> dict[str, Counter[str]]:
    """Makes small runs and damages every file that matters.

    Args:
        flips: bits that are flipped in each file, one at a time; it is cut and emptied, too, and exchanged for another
            run's.
        seed: of what is damaged.
        folder: for the runs.
        lm: the LM.
        kinds: of runs, of :data:`MODELS`.

    Returns:
        By file how many damages were ``refused`` in one line, ``harmless`` (the same was read), and ``violations``.
    """
    rng = random.Random(seed)
    outcomes: dict[str, Counter[str]] = {}
    for kind in kinds:
        run, other = (make_run(folder / str(number), kind, number, lm) for number in (0, 1))
        for path, read in readers(run):
            if not path.exists():
                continue
            content, expected = path.read_bytes(), repr(read())
            results = [_outcome(path, damage, read, expected) for damage in _damages(content, flips, rng)]
            assert _outcome(path, content, read, expected) == "harmless", path
            outcomes[f"{kind}: {path.relative_to(run.parents[1])}"] = Counter(results)
        for name, outcome in exchanged(run, other).items():
            outcomes[f"{kind}: {name}"] = Counter([outcome])
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = campaign(given.flips, given.seed, Path(temporary))
    columns = ("refused", "harmless", "violations")
    print(f"{'file':64} {'tried':>9}", *(f"{name:>10}" for name in columns))
    for file, counts in found.items():
        print(f"{file[-64:]:64} {counts.total():9}", *(f"{counts[name]:10}" for name in columns))
    total = {name: sum(counts[name] for counts in found.values()) for name in columns}
    print(json.dumps(total))
    sys.exit(total["violations"] > 0)
