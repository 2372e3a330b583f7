"""The folder of a run: claimed by one process, known to all parts of its trainer."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import lightning as L


class RunFolder(L.Callback):
    """Tells a trainer's parts which folder its run keeps, whatever its logger.

    Args:
        path: the folder.
        packages: of classes in its config that a command must trust to read it.
    """

    def __init__(self, path: Path, packages: Sequence[str] = ()) -> None:
        self.path = path
        self.packages = packages


def run_folder(trainer: L.Trainer) -> Path | None:
    """Folder of a trainer's run; None for a run that keeps none (``fast_dev_run``).

    A trainer without :class:`RunFolder` has its logger's.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RunFolder):
            return callback.path
    return None if trainer.logger is None or trainer.log_dir is None else Path(trainer.log_dir)


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
