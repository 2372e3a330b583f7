"""A folder in which every command can be tried, as often as one likes."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path

import yaml

from tests.faults.payloads import CONFIG, HARD
from tests.faults.processes import Processes

FAMILIES = {
    "families": [{"class_path": "EntropyMatched", "init_args": {"entropies": 2, "per_entropy": 2}}],
    "chunk_size": 2,
}
SOFT = CONFIG | {"model": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 12}}, "data": FAMILIES}
LIFT = SOFT | {"model": {"class_path": "SoftPrompt", "init_args": {"length": 1, "steps": 9, "init": {"kind": "lift"}}}}
# whether screening pays is measured, so that two runs may differ in it
SHARED = {"class_path": "HardPrompt", "init_args": {"length": 3, "steps": 4, "screening": "never"}}
CONFIGS = {"soft": SOFT, "lift": LIFT, "hard": SOFT | {"model": SHARED}, "gcg": SOFT | {"model": HARD}}
TEXT = "Once upon a time there was a king who had three sons.\n" * 400
PRETRAIN = {
    "model": {
        "architecture": "llama", "out": "trained",
        "options": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    },
    "data": {"texts": {"path": "text.txt"}, "tokenizer": {"vocab_size": 300}, "context": 16, "batch_size": 4},
    "trainer": {"max_steps": 60},
}  # fmt: skip

#: Commands by the row of the table that they are counted in; RUN is a run that has ended and was tested.
COMMANDS = {
    "fit": [("fit", "--config", f"{name}.yaml") for name in CONFIGS],
    "test": [("test", "--run", "RUN")],
    "validate": [("validate", "--run", "RUN")],
    "predict": [("predict", "--run", "RUN")],
    "export": [("export", "--run", "RUN", "--format", "embeds", "--out", "exported", "--script")],
    "floor": [("floor", "--config", "soft.yaml", "--tolerance", "1e-6")],
    "shortest": [("shortest", "--config", "hard.yaml", "--kl", "1", "--lengths", "1", "2")],
    "report": [("report", "RUN", "--out", "page")],
    "targets build": [("targets", "build", "--config", "soft.yaml", "--out", "made")],
    "targets show": [("targets", "show", "RUN")],
    "pretrain": [("pretrain", "--config", "pretrain.yaml")],
}


def in_turn(count: int, kinds: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``count`` commands of these rows of :data:`COMMANDS`, one after the other, each with its row."""
    return islice(cycle([(kind, words) for kind in kinds for words in COMMANDS[kind]]), count)


class Workplace:
    """A folder with configs, and a run that has ended and was tested.

    Attributes:
        folder: in which the next command runs; as new after :meth:`clear`.
    """

    def __init__(self, root: Path, processes: Processes, lm: Path) -> None:
        self._root, self._processes = root, processes
        self.folder, self._clean, self._temporary = (root / name for name in ("try", "clean", "temporary"))
        self._log = root / "log"
        self._clean.mkdir()
        (self._clean / "text.txt").write_text(TEXT)
        (self._clean / "pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN))
        for name, config in CONFIGS.items():
            (self._clean / f"{name}.yaml").write_text(yaml.safe_dump(config | {"lm": str(lm)}))
        self.clear()
        for command in (("fit", "--config", "soft.yaml"), ("test", "--run", "RUN")):
            assert self.wait(self.start(*command)) == 0, self.said
        shutil.copytree(self.folder / "logs", self._clean / "logs")

    def clear(self) -> None:
        """Makes the folder as it was at the beginning."""
        for folder in (self.folder, self._temporary):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._clean, self.folder)
        self._temporary.mkdir()

    def start(self, *words: object, most: int | None = None) -> int:
        """Starts a command; arguments and value as of :meth:`Processes.start`, ``RUN`` is the run."""
        words = tuple("logs/soft/version_0" if word == "RUN" else word for word in words)
        folders = {"folder": self.folder, "temporary": self._temporary, "log": self._log}
        return self._processes.start(*words, **folders, most=most)

    def wait(self, pid: int) -> int:
        """How it ended."""
        return self._processes.wait(pid)

    def ended_within(self, pid: int, seconds: float) -> int | None:
        """Waits so long; gives how it ended, None if it lasts."""
        until = time.monotonic() + seconds
        while (code := self._processes.ended(pid)) is None and time.monotonic() < until:
            time.sleep(0.005)
        return code

    @property
    def said(self) -> str:
        """All that the last command printed."""
        return self._log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        """The last line of that, as it is seen."""
        return self.said.rstrip().rpartition("\n")[2].rpartition("\r")[2]

    @property
    def litter(self) -> list[str]:
        """What a command should not have left."""
        return [str(path) for path in [*self.folder.rglob(".lit_prompt-*"), *self._temporary.iterdir()]]


@contextlib.contextmanager
def workplace(lm: Path) -> Iterator[Workplace]:
    """Makes one; it is the current folder's neighbour, and goes at the end."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as root, Processes() as processes:
        os.chdir(root)
        try:
            yield Workplace(Path(root), processes, lm)
        finally:
            os.chdir(before)
