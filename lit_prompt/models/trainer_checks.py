"""Trainer settings that are refused because they would change results silently."""

import lightning as L
from lightning.pytorch.callbacks import Timer

from lit_prompt.data import TargetDataModule
from lit_prompt.errors import InputError
from lit_prompt.objectives import Objective


def check_trainer(trainer: L.Trainer) -> None:
    """Refuses a trainer that would change results silently."""
    refuse_many_devices(trainer)
    if str(trainer.precision) != "32-true":
        raise InputError("trainer.precision must stay 32-true: prompts and losses are float32; set lm_options.dtype")


def refuse_many_devices(trainer: L.Trainer) -> None:
    """Refuses a trainer with several processes: they would average gradients of prompts that have nothing in common."""
    if trainer.world_size > 1:
        raise InputError("a run uses one device; set trainer.devices to 1 and start one run for each device")


def refuse_excluded_tokens(data: TargetDataModule, objective: Objective) -> None:
    """Refuses targets that exclude tokens, for an objective that is infinite for those."""
    for batch in data.evaluation_dataloader():
        for target_id, excluded in zip(batch.target_id, batch.log_probs.isinf().sum(1).tolist(), strict=True):
            if excluded:
                raise InputError(
                    f"{target_id}: this target excludes {excluded} tokens, for which {objective.name} is infinite; set "
                    "smoothing of model.objective (0.001, say), or choose another objective"
                )


def refuse_cut_chunks(trainer: L.Trainer) -> None:
    """Refuses trainer settings that end a chunk before its steps: it would count as searched."""
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    cut = trainer.max_steps != -1 or trainer.limit_train_batches not in (1.0, None)
    if (cut or timed) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise InputError(
            "trainer.max_steps, max_time and limit_train_batches would cut a chunk short; set model.steps, or stop "
            "with Ctrl-C and go on with --run"
        )
