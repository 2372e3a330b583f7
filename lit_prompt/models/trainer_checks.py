"""Trainer settings that are refused because they would change results silently."""

import lightning as L
from lightning.pytorch.callbacks import Timer

from lit_prompt.errors import InputError


def refuse_many_devices(trainer: L.Trainer) -> None:
    """Refuses a trainer with several processes: they would average gradients of prompts that have nothing in common."""
    if trainer.world_size > 1:
        raise InputError("a run uses one device; set trainer.devices to 1 and start one run for each device")


def refuse_low_precision(trainer: L.Trainer) -> None:
    """Refuses a trainer that computes in another precision than float32."""
    if str(trainer.precision) != "32-true":
        raise InputError("trainer.precision must stay 32-true: prompts and losses are float32; set lm_options.dtype")


def refuse_cut_chunks(trainer: L.Trainer) -> None:
    """Refuses trainer settings that end a chunk before its steps: it would count as searched."""
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    cut = trainer.max_steps != -1 or trainer.limit_train_batches not in (1.0, None)
    if (cut or timed) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise InputError(
            "trainer.max_steps, max_time and limit_train_batches would cut a chunk short; set model.steps, or stop "
            "with Ctrl-C and go on with --run"
        )
