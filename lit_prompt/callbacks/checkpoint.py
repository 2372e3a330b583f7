"""One checkpoint that is always whole, and a stop that loses nothing."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from lit_prompt.data.run_folder import run_folder, run_option
from lit_prompt.errors import InputError
from lit_prompt.interruption import Interrupted, give_back, held, hold, release, stop_if_asked, take_signals

CHECKPOINT = Path("checkpoints") / "last.ckpt"


class SearchCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run's folder: replaced in one move, so never half written.

    It is written every ``every_n_steps`` steps, after each chunk, and when Ctrl-C or SIGTERM ends the fit. Those wait
    for the end of a step, unless what a module does in one is :func:`lit_prompt.interruption.interruptible`; such a
    step is made again after a resume.

    Args:
        every_n_steps: steps between two checkpoints.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps is {every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self._searching = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Holds signals; Lightning's own handler of SIGTERM would end the fit with code 0."""
        self._handlers = take_signals()
        self._searching = True
        hold()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time; ends the fit if the user wants to."""
        stop_if_asked()
        if (batch_idx + 1) % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves after a chunk."""
        # Lightning counts the batch at which a chunk ends early as begun alone, and would take later ones for cut
        trainer.fit_loop.epoch_loop.batch_progress.total.reset_on_restart()
        self._save(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Ends the fit if the user wants to."""
        stop_if_asked()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the signals back."""
        self._searching = False
        release()
        give_back(self._handlers)
        stop_if_asked()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Saves what an interrupted search has found; gives the signals back."""
        if not self._searching:
            return
        if isinstance(exception, Interrupted):
            with held():
                _forget_cut_step(trainer)
                self._save(trainer)
        self.on_train_end(trainer, pl_module)

    def _save(self, trainer: L.Trainer) -> None:
        folder = run_folder(trainer)
        if folder is None:
            return
        path = folder / CHECKPOINT
        try:
            trainer.save_checkpoint(path, weights_only=False)
        except OSError as error:
            kept = "; the one before it is whole" if path.exists() else ""
            raise InputError(
                f"{path}: the checkpoint could not be written ({error.strerror or error}){kept}"
            ) from error


def _forget_cut_step(trainer: L.Trainer) -> None:
    """Lets Lightning's counts say that a step that was cut was not begun, as a resume goes by them."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    current = batches.state_dict()["current"]
    if current["processed"] == current["completed"]:
        for count in (batches.total, batches.current):
            count.reset_on_restart()


def how_to_go_on(trainer: L.Trainer, command: str) -> str | None:
    """What the user of an interrupted fit is told; None where nothing of it was saved."""
    folder = run_folder(trainer)
    if folder is None or not (folder / CHECKPOINT).exists():
        return None
    run = run_option(trainer, folder)
    if command == "fit" and trainer.fit_loop.done:
        return f"Interrupted; the search had ended. Evaluate it with: lit_prompt test {run}"
    return f"Interrupted; everything so far is saved. Resume with: lit_prompt {command} {run}"
