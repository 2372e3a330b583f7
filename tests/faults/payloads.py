"""Programs in every place of a config that takes a class: none of them may run.

``python -m tests.faults.payloads`` prints a table of all; the suite tries some.
"""

import itertools
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.faults.commands import Outcome, Try, inside, run, show

LM = Path(__file__).parents[2] / "data" / "lms" / "tales-llama"
MARK = "it_ran"

CONFIG: dict[str, Any] = {
    "model": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 2}},
    "data": {"families": [{"class_path": "OneHot", "init_args": {"count": 2}}]},
}
HARD = {"class_path": "HardPrompt", "init_args": {"length": 2, "steps": 1, "searcher": {"class_path": "GCG"}}}

#: Python files beside the config, whose import is already a program that runs.
FILES = {
    "evil_module.py": """
import pathlib
from torch.optim import Adam
pathlib.Path("it_ran").touch()
class Optimizer(Adam): pass
class Callback: pass
""",
}

#: What is named, in every form that a place may take.
PAYLOADS: dict[str, Any] = {
    "os.system": {"class_path": "os.system", "init_args": {"command": f"touch {MARK}"}},
    "posix.system": {"class_path": "posix.system", "init_args": {"command": f"touch {MARK}"}},
    "subprocess.getoutput": {"class_path": "subprocess.getoutput", "init_args": {"cmd": f"touch {MARK}"}},
    "subprocess.Popen": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", MARK]}},
    "builtins.exec": {"class_path": "builtins.exec", "dict_kwargs": {"source": f"open('{MARK}', 'w')"}},
    "builtins.open": {"class_path": "builtins.open", "init_args": {"file": MARK, "mode": "w"}},
    "pathlib.Path.touch": {"class_path": "pathlib.Path.touch", "init_args": {"self": MARK}},
    "pathlib.Path": {"class_path": "pathlib.Path"},
    "by another name": {"class_path": "lit_prompt.files.os.system", "init_args": {"command": f"touch {MARK}"}},
    "by torch": {"class_path": "torch.optim.lr_scheduler.types.FunctionType"},
    "LambdaCallback": {"class_path": "LambdaCallback", "init_args": dict.fromkeys(("setup", "teardown"), "os.system")},
    "LambdaLR": {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "os.system"}},
    "a name alone": "os.system",
    "a module": {"class_path": "evil_module.Optimizer"},
    "a module's name": "evil_module.Optimizer",
    "a file elsewhere": {"class_path": "SimpleProfiler", "init_args": {"dirpath": "elsewhere", "filename": "p"}},
    "a YAML tag": "!!python/object/apply:os.system",
}  # fmt: skip

#: Where they are put; a list's item by its position.
PLACES: dict[str, tuple[Any, ...]] = {
    "model": ("model",),
    "optimizer": ("model", "init_args", "optimizer"),
    "scheduler": ("model", "init_args", "scheduler"),
    "objective": ("model", "init_args", "objective"),
    "init": ("model", "init_args", "init"),
    "searcher": ("model", "init_args", "searcher"),
    "family": ("data", "families", 0),
    "callback": ("trainer", "callbacks", 0),
    "callbacks": ("trainer", "callbacks"),
    "logger": ("trainer", "logger"),
    "plugins": ("trainer", "plugins"),
    "profiler": ("trainer", "profiler"),
    "strategy": ("trainer", "strategy"),
    "accelerator": ("trainer", "accelerator"),
    "profiler, joined": ("trainer.profiler",),
    "callbacks, joined": ("trainer.callbacks",),
    "family, joined": ("data.families",),
    "checkpoint": ("checkpoint",),
    "lm_options": ("lm_options",),
}
#: ``fit`` of a config of one's own is not among those that must not import a module: it may be one's own, too.
COMMANDS = ("fit", "test", "predict", "validate", "export", "resume", "floor")


def _put(settings: dict[str, Any], place: tuple[Any, ...], payload: Any) -> dict[str, Any]:
    settings = yaml.safe_load(yaml.safe_dump(settings))
    if place[-1] == "searcher":
        settings["model"] = yaml.safe_load(yaml.safe_dump(HARD))
    node: Any = settings
    for key, following in itertools.pairwise(place):
        child = [None] if isinstance(following, int) else {}
        if isinstance(node, list):
            node = node[key]
        else:
            node[key] = node.get(key) or child
            node = node[key]
    node[place[-1]] = payload
    return settings


def _attacks(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    every = list(itertools.product(COMMANDS, PLACES, PAYLOADS))
    random.Random(seed).shuffle(every)
    yield from every[:count]


def _attack(command: str, run_folder: Path, settings: dict[str, Any]) -> Outcome:
    text = yaml.safe_dump(settings).replace("'!!python", "!!python").replace("system'", f"system ['touch {MARK}']")
    if command in ("fit", "floor"):
        Path("evil.yaml").write_text(text)
        return run(command, "--config", "evil.yaml", "--logs", "new")
    (run_folder / "config.yaml").write_text(text)
    if command == "export":
        shutil.rmtree("exported", ignore_errors=True)
        return run(command, "--run", run_folder, "--format", "embeds", "--out", "exported")
    return run("fit" if command == "resume" else command, "--run", run_folder)


def campaign(count: int, seed: int = 0, lm: Path = LM) -> list[Try]:
    """Tries ``count`` of all payloads, in all places, under all commands, in this process.

    Args:
        count: of attacks, drawn from all.
        seed: of the draw.
        lm: a small LM.
    """
    tries = []
    path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        config = CONFIG | {"lm": str(lm)}
        Path("run.yaml").write_text(yaml.safe_dump(config))
        made = run("fit", "--config", "run.yaml")
        assert made.code == 0, made.said
        clean = Path("clean")
        shutil.copytree("logs/run/version_0", clean)
        sys.path.insert(0, folder)  # as the folder that a program is started in
        try:
            for command, place, payload in _attacks(count, seed):
                for name, content in FILES.items():
                    Path(name).write_text(content)
                    sys.modules.pop(Path(name).stem, None)
                shutil.copytree(clean, "evil", dirs_exist_ok=True)
                saved = yaml.safe_load((clean / "config.yaml").read_text())
                settings = _put(config if command in ("fit", "floor") else saved, PLACES[place], PAYLOADS[payload])
                outcome = _attack(command, Path("evil"), settings)
                own = command in ("fit", "floor") and payload.startswith("a module")
                violation = (
                    "it ran" if Path(MARK).exists() and not own else "" if outcome.clean else outcome.said[-600:]
                )
                result = "refused" if outcome.code == 2 else "left aside"
                tries.append(Try(command, f"{payload} as {place}", result, violation))
                if Path("elsewhere").exists():  # one's own config, and one's own search, may write where they like
                    violation = violation or ("" if command in ("fit", "resume") else "it wrote elsewhere")
                    shutil.rmtree("elsewhere")
                Path(MARK).unlink(missing_ok=True)
                shutil.rmtree("evil")
        finally:
            sys.path[:] = path
    return tries


if __name__ == "__main__":
    show(campaign, __doc__, "payloads", len(COMMANDS) * len(PLACES) * len(PAYLOADS))
