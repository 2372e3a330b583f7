"""What is kept of a run under way, and a stop that loses nothing."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from lit_prompt.data.run_folder import run_folder, run_option
from lit_prompt.errors import InputError
from lit_prompt.interruption import Interrupted, give_back, held, hold, release, stop_if_asked, take_signals
from lit_prompt.models import PromptModule

CHECKPOINT = Path("checkpoints") / "last.ckpt"


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run's folder: replaced in one move, so never half written.

    It is written every ``every_n_steps`` steps, after each epoch, and when Ctrl-C or SIGTERM ends the fit. Those wait
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
        """Saves after an epoch."""
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
                self._save(trainer)
        self.on_train_end(trainer, pl_module)

    def _save(self, trainer: L.Trainer) -> None:
        if (folder := run_folder(trainer)) is None:
            return
        try:
            self._write(trainer, folder)
        except OSError as error:
            raise InputError(
                f"{error.filename or folder}: what was found could not be kept ({error.strerror or error}); what was "
                "kept before is whole"
            ) from error

    def _write(self, trainer: L.Trainer, folder: Path) -> None:
        trainer.save_checkpoint(folder / CHECKPOINT, weights_only=False)


class SearchCheckpoint(RunCheckpoint):
    """Keeps the chunk under search in the run's ``chunks`` folder, as :class:`RunCheckpoint` keeps a checkpoint.

    Chunks that are finished have their own files: what is written at a time does not grow with the targets.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As of :class:`RunCheckpoint`; from here on there is a search to go on with."""
        super().on_train_start(trainer, pl_module)
        if (folder := run_folder(trainer)) is not None:
            (folder / "chunks").mkdir(exist_ok=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves nothing: the chunk is finished, and kept."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """As of :class:`RunCheckpoint`; lets other processes have what this one has held."""
        super().on_exception(trainer, pl_module, exception)
        if isinstance(pl_module, PromptModule) and hasattr(pl_module, "chunks"):
            pl_module.chunks.close()

    def _write(self, trainer: L.Trainer, folder: Path) -> None:
        module = trainer.lightning_module
        if isinstance(module, PromptModule) and module.is_searching:
            module.chunks.keep()


def has_found(folder: Path) -> bool:
    """Whether a run has kept anything that it can go on from."""
    return (folder / CHECKPOINT).exists() or any((folder / "chunks").glob("*.zip"))


def how_to_go_on(trainer: L.Trainer, command: str) -> str | None:
    """What the user of an interrupted fit is told; None where nothing of it was saved."""
    folder = run_folder(trainer)
    if folder is None or not ((folder / CHECKPOINT).exists() or (folder / "chunks").is_dir()):
        return None
    run = run_option(trainer, folder)
    if command == "fit" and trainer.fit_loop.done:
        return f"Interrupted; the search had ended. Evaluate it with: lit_prompt test {run}"
    return f"Interrupted; everything so far is saved. Resume with: lit_prompt {command} {run}"
