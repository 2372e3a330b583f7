"""The folder of a run: claimed by one process, known to all parts of its trainer."""

import re
from pathlib import Path

import lightning as L


class RunFolder(L.Callback):
    """Tells a trainer's parts which folder its run keeps, whatever its logger.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path


def run_folder(trainer: L.Trainer) -> Path | None:
    """Folder of a trainer's run; None for a run that keeps none (``fast_dev_run``).

    A trainer without :class:`RunFolder` has its logger's.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RunFolder):
            return callback.path
    return None if trainer.logger is None or trainer.log_dir is None else Path(trainer.log_dir)


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
