"""One checkpoint that is always whole, and a stop that loses nothing."""

import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from lit_prompt.data.run_folder import run_folder
from lit_prompt.errors import InputError, Interrupted
from lit_prompt.files import replaced_whole

CHECKPOINT = Path("checkpoints") / "last.ckpt"


class SearchCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run's folder: replaced in one move, so never half written.

    It is written every ``every_n_steps`` steps, after each chunk, and on Ctrl-C or SIGTERM, which end the fit after the
    step that is being made.

    Args:
        every_n_steps: steps between two checkpoints.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise InputError(f"checkpoint.every_n_steps is {every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self._stop = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes over Ctrl-C and SIGTERM."""
        self._stop = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._request_stop)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        signal.signal(number, signal.default_int_handler)  # a second Ctrl-C does not wait

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time, or when the user wants to stop."""
        if self._stop or (batch_idx + 1) % self.every_n_steps == 0:
            path = self._save(trainer)
            if self._stop:
                raise Interrupted(_how_to_resume(path, getattr(pl_module, "command", "fit")))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves after a chunk."""
        self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self.on_train_end(trainer, pl_module)

    def _save(self, trainer: L.Trainer) -> Path | None:
        folder = run_folder(trainer)
        if folder is None:
            return None
        path = folder / CHECKPOINT
        try:
            with replaced_whole(path) as staging:
                trainer.save_checkpoint(staging, weights_only=False)
        except OSError as error:
            kept = "; the one before it is whole" if path.exists() else ""
            raise InputError(
                f"{path}: the checkpoint could not be written ({error.strerror or error}){kept}"
            ) from error
        return path


def _how_to_resume(path: Path | None, command: str) -> str:
    if path is None:
        return "Interrupted; nothing was saved, as this run keeps no folder."
    run = shlex.quote(str(path.parents[1]))
    return f"Interrupted; everything so far is saved. Resume with: lit_prompt {command} --run {run}"
