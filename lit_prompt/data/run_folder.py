"""The folder of a run: claimed by one process, known to all parts of its trainer."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import lightning as L


class RunFolder(L.Callback):
    """Tells a trainer's parts which folder its run keeps, whatever its logger.

    Args:
        path: the folder; None until it is known.
        packages: of classes in its config that a command must trust to read it.

    Attributes:
        shared: whether several processes may search the run.
        joined: whether this one has joined it, with settings of its own.
        parts: folder for the parts of an evaluation by several processes.
    """

    def __init__(self, path: Path | None, packages: Sequence[str] = ()) -> None:
        self.path = path
        self.packages = packages
        self.shared = self.joined = False
        self.parts: Path | None = None


def run_folder(trainer: L.Trainer) -> Path | None:
    """Folder of a trainer's run; None for a run that keeps none (``fast_dev_run``).

    A trainer without :class:`RunFolder` has its logger's.
    """
    if (found := _marker(trainer)) is not None:
        return found.path
    return None if trainer.logger is None or trainer.log_dir is None else Path(trainer.log_dir)


def shared_folder(trainer: L.Trainer | None) -> Path | None:
    """Folder of a trainer's run where several processes search it; else None."""
    found = None if trainer is None else _marker(trainer)
    return found.path if found is not None and found.shared else None


def is_joined(trainer: L.Trainer) -> bool:
    """Whether a trainer's process has joined a run that others may have begun."""
    return (found := _marker(trainer)) is not None and found.joined


def parts_folder(trainer: L.Trainer) -> Path | None:
    """Folder for the parts of an evaluation that a trainer's processes make side by side; None where there is none."""
    return None if (found := _marker(trainer)) is None else found.parts


def _marker(trainer: L.Trainer) -> RunFolder | None:
    return next((found for found in trainer.callbacks if isinstance(found, RunFolder)), None)  # type: ignore[attr-defined]


def run_option(trainer: L.Trainer, run: Path) -> str:
    """The options of a command on a trainer's run, in its ``run`` folder, as they are typed."""
    trusted = [p for c in trainer.callbacks if isinstance(c, RunFolder) for p in c.packages]  # type: ignore[attr-defined]
    return " ".join([f"--run {shlex.quote(str(run))}", *(f"--trust {package}" for package in trusted)])


def checkpoint_run(trainer: L.Trainer) -> Path | None:
    """Folder of the run that a trainer's checkpoint is of; None where it starts from none."""
    return None if trainer.ckpt_path is None else Path(trainer.ckpt_path).parents[1]


def beside_runs(trainer: L.Trainer, name: str) -> Path | None:
    """A folder for all runs beside a trainer's, or beside that of its checkpoint; None where neither keeps one."""
    run = run_folder(trainer)
    if run is None and trainer.logger is None:
        run = checkpoint_run(trainer)
    return None if run is None else run.absolute().parents[1] / name


def adds_beside_runs(trainer: L.Trainer) -> bool:
    """Whether a trainer's run adds to what all runs share; a validation writes nothing."""
    return run_folder(trainer) is not None and not trainer.validating


def claim_run_folder(runs: Path) -> Path:
    """Makes the next ``version_K`` in a folder; runs that start together get one each.

    Raises:
        OSError: if it cannot be made.
    """
    taken = [int(found[1]) for path in runs.glob("*") if (found := re.fullmatch(r"version_(\d+)", path.name))]
    number = max(taken, default=-1) + 1
    while True:
        folder = runs / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.exists():  # what stands in the way is above it
                raise
            number += 1
        else:
            return folder
