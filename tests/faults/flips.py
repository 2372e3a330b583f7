"""Damages the files of runs at random: what is read of them is what was written, or one line says what is wrong.

``python -m tests.faults.flips --flips 1000`` prints what came of it, file by file.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from lit_prompt.data.target_set import TargetSet
from lit_prompt.errors import InputError
from lit_prompt.records.chunks import read_found, read_state
from lit_prompt.records.floors import FloorCache
from lit_prompt.records.prompt_texts import read_texts
from lit_prompt.records.prompts import read_prompts
from lit_prompt.report.runs import read_runs
from tests.faults.commands import Try, show
from tests.faults.commands import run as run_command
from tests.faults.payloads import LM

MODELS = {
    "soft": "{class_path: SoftPrompt, init_args: {length: 2, steps: 3}}",
    "hard": "{class_path: HardPrompt, init_args: {length: 2, steps: 1, "
    "searcher: {class_path: SharedSearch, init_args: {width: 4}}}}",
}
CONFIG = "model: {model}\ndata: {{families: [{{class_path: OneHot, init_args: {{count: 3, seed: {seed}}}}}]}}\n"
Read = Callable[[], object]


def make_run(folder: Path, kind: str, seed: int, lm: Path) -> Path:
    """A run that was searched, tested and predicted."""
    config = folder / f"{kind}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(model=MODELS[kind], seed=seed))
    run = folder / "logs" / kind / "version_0"
    asked = [["fit", "--config", config, "--lm", lm, "--logs", folder / "logs"]]
    asked += [[name, "--run", run] for name in ("test", "predict")]
    for args in asked:
        made = run_command(*args)
        assert made.code == 0, made.said
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
    for path in sorted(run.glob("chunks/*.zip")):
        yield path, lambda path=path: _plain([read_found(path), read_state(path)])
    for path in sorted((run.parents[1] / "floors").glob("*.parquet")):
        yield path, lambda path=path: _floors(path)


def _damages(content: bytes, flips: int, rng: random.Random) -> Iterator[bytes]:
    for _ in range(flips):
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    yield from (content[: rng.randrange(len(content))] for _ in range(min(flips, 5)))
    yield b""


def _read(kind: str, path: Path, content: bytes, read: Read, expected: str) -> Try:
    path.unlink()  # the old one may be mapped
    path.write_bytes(content)
    try:
        wrong = "" if repr(read()) == expected else "other contents were read"
        return Try(kind, str(path), "harmless", wrong)
    except InputError as error:
        return Try(kind, str(path), "refused", str(error) if "\n" in str(error) else "")
    except Exception as error:  # a traceback for the user
        return Try(kind, str(path), "broke", f"{type(error).__name__}: {error}")


def _table(said: str) -> str:
    """The table that a command has printed, with what stands below it, without the names of files."""
    return said[said.find("KL(target") :].partition("\nresults ")[0]


def _configs(kind: str, run: Path, flips: int, rng: random.Random) -> Iterator[Try]:
    """What commands make of damages to a run's config, which people may change by hand.

    They are refused, change nothing, or what is shown names the config.
    """
    path = run / "config.yaml"
    content = path.read_bytes()
    commands = [(name, "--run", run) for name in ("validate", "test")]
    expected = {command: _table(run_command(*command).said) for command in commands}
    for number, damage in enumerate(_damages(content, flips, rng)):
        command = commands[number % 8 == 7]
        path.write_bytes(damage)
        found = run_command(*command)
        named, same = str(path) in found.said, _table(found.said) == expected[command]
        result = "refused" if found.code else "harmless" if same else "other settings, named"
        good = found.clean and (named or (found.code == 0 and same))
        what = f"{command[0]} with {''.join(_changed(content, damage))!a}"
        yield Try(f"{kind}: config.yaml", what, result, "" if good else found.said[-400:])
    path.write_bytes(content)


def _changed(before: bytes, after: bytes) -> Iterator[str]:
    """The lines that a damage has changed."""
    lines = before.splitlines()
    yield from (line.decode(errors="replace") for line in after.splitlines() if line not in lines)


def _exchanged(kind: str, run: Path, other: Path) -> Iterator[Try]:
    """What commands make of each file of another run in the place of a run's own."""
    for name in ("results.parquet", "predictions.parquet", "prompts.safetensors", "targets", "chunks"):
        place, kept = run / name, run / "kept"
        place.rename(kept)
        (shutil.copytree if kept.is_dir() else shutil.copy)(other / name, place)
        asked = ["report", run, "--out", run / "report"]
        if name in ("chunks", "targets"):
            asked = ["validate", "--run", run, "--floors", "false"]
        found = run_command(*asked)
        refused = found.clean and found.code == 2
        yield Try(f"{kind}: {name} of another run", name, "refused", "" if refused else found.said[-400:])
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        kept.rename(place)


def campaign(flips: int, seed: int = 0, lm: Path = LM, kinds: Iterable[str] = MODELS, files: str = "*") -> list[Try]:
    """Makes small runs and damages every file that matters.

    Args:
        flips: bits that are flipped in each file, one at a time; it is cut and emptied, too, and exchanged for another
            run's.
        seed: of what is damaged.
        lm: the LM.
        kinds: of runs, of :data:`MODELS`.
        files: a pattern of the names of those that are damaged.
    """
    draw = random.Random(seed)
    tries: list[Try] = []
    with tempfile.TemporaryDirectory() as temporary:
        for kind in kinds:
            run, other = (make_run(Path(temporary) / str(number), kind, number, lm) for number in (0, 1))
            for path, read in readers(run):
                if path.exists() and path.match(files):
                    row = f"{kind}: {path.relative_to(run.parents[1])}"
                    content, expected = path.read_bytes(), repr(read())
                    tries += [_read(row, path, damage, read, expected) for damage in _damages(content, flips, draw)]
                    assert _read(row, path, content, read, expected).result == "harmless", path
            tries += _exchanged(kind, run, other)
            if (run / "config.yaml").match(files):  # last, as a test adds results
                tries += _configs(kind, run, flips, draw)
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "flips", 100)
