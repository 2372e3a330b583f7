"""What a search must know of its optimizer and scheduler before it uses them."""

import logging
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from lit_prompt.errors import InputError

_log = logging.getLogger(__name__)

# These update each number from its own gradients, so that prompts stacked in one tensor do not touch one another.
_ELEMENTWISE = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


def probe_optimizer(make: OptimizerCallable) -> torch.optim.Optimizer:
    """The optimizer over a single number, to ask it what it is.

    Raises:
        InputError: if its settings are wrong.
    """
    try:
        return make([nn.Parameter(torch.zeros(1, 1))])
    except (ValueError, TypeError) as error:
        raise InputError(f"model.optimizer: {error}") from error


def optimizer_settings(make: OptimizerCallable, make_scheduler: LRSchedulerCallable | None) -> dict[str, Any]:
    """Names and plain settings of an optimizer and a scheduler."""
    optimizer = probe_optimizer(make)
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__, "scheduler": None}
    settings |= {f"optimizer.{name}": value for name, value in _plain(optimizer.defaults).items()}
    if make_scheduler is not None:
        scheduler = make_scheduler(optimizer)
        settings["scheduler"] = type(scheduler).__name__
        settings |= {f"scheduler.{name}": value for name, value in _plain(scheduler.state_dict()).items()}
    return settings


def optimizer_over_slots(
    make: OptimizerCallable, prompt: nn.Parameter
) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """An optimizer over stacked prompts ``[slot, ...]`` that keeps them apart.

    Beside it the slots as the parameters that it sees, which share the stack's memory; none where it sees the stack.

    Raises:
        InputError: if its settings are wrong, or it cannot search prompts.
    """
    probe = probe_optimizer(make)
    if isinstance(probe, torch.optim.SparseAdam):
        raise InputError("model.optimizer SparseAdam takes sparse gradients only; use torch.optim.Adam")
    together = isinstance(probe, torch.optim.LBFGS) or type(probe).__name__ in _ELEMENTWISE
    slots = [] if together else [nn.Parameter(slot) for slot in prompt.data]
    return make(slots or [prompt]), slots


def refuse_coupled_slots(optimizer: torch.optim.Optimizer, scheduler: LRScheduler | ReduceLROnPlateau | None) -> None:
    """Refuses an optimizer or scheduler under which several searches would influence one another."""
    for culprit, couples in ((optimizer, torch.optim.LBFGS), (scheduler, ReduceLROnPlateau)):
        if isinstance(culprit, couples):
            raise InputError(
                f"{type(culprit).__name__} makes one decision for a whole chunk, so targets would influence one "
                "another; set data.chunk_size and model.restarts to 1"
            )


def check_schedule(scheduler: LRScheduler | ReduceLROnPlateau | None, steps: int) -> None:
    """Says what becomes of a schedule that was made for a number of steps when a search makes more.

    Raises:
        InputError: if it has none for those.
    """
    made_for = {name: getattr(scheduler, name, None) for name in ("total_steps", "T_max", "total_iters")}
    for name, total in made_for.items():
        if total is None or total > steps:
            continue
        about = f"{type(scheduler).__name__}, {name} {total}"
        if isinstance(scheduler, OneCycleLR):
            raise InputError(f"model.scheduler: {about}, has no step after the last; start anew, with fit --config")
        _log.warning(
            "the learning rate's schedule was made for fewer steps (%s) and goes on as it does beyond them", about
        )


def step_scheduler(scheduler: LRScheduler | ReduceLROnPlateau | None, loss: float, steps: int) -> None:
    """Steps a scheduler, if there is one, after an optimizer's step; one that looks at the loss is given it.

    Raises:
        InputError: names ``steps``, those of a search, if the scheduler has no step left.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(loss)
    elif scheduler is not None:
        try:
            scheduler.step()
        except ValueError as error:
            raise InputError(f"model.scheduler: {error} (model.steps is {steps})") from error


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The entries that a configuration can hold."""
    return {k: v for k, v in values.items() if not k.startswith("_") and isinstance(v, (int, float, str, bool))}
