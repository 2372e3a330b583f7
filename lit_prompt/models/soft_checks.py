"""What settings of soft prompts must be like."""

from typing import TYPE_CHECKING

from lit_prompt.errors import InputError
from lit_prompt.objectives import ForwardKL

if TYPE_CHECKING:
    from lit_prompt.models.soft import SoftPrompt


def check_soft(module: "SoftPrompt") -> None:
    """Finds settings of the norm, the start and the lift that cannot be searched with.

    Raises:
        InputError: if there are such.
    """
    if module.max_norm is not None and not module.max_norm > 0:
        raise InputError(f"model.max_norm is {module.max_norm}; it must be positive, or null for no limit")
    if module.init.kind in ("text", "peft") and module.restarts > 1:
        raise InputError(
            f"model.init.kind {module.init.kind} gives every restart the same start; set model.restarts to 1"
        )
    if module.init.kind == "peft" and not module.init.path:
        raise InputError("model.init.kind is peft, so model.init.path must name the adapter's folder")
    if module.init.kind == "text" and not module.init.text:
        raise InputError("model.init.kind is text, so model.init.text must hold at least one token")
    if module.init.kind == "lift" and module.temperature != 1.0:
        raise InputError("model.temperature: the lift is of the LM's own probabilities; set model.init.kind to random")
    if module.lift_tolerance is not None:
        _check_lift(module, module.lift_tolerance)


def _check_lift(module: "SoftPrompt", tolerance: float) -> None:
    if module.components > 1:
        raise InputError(
            "model.lift_tolerance is for single prompts: set it to null (the lift may still be the first "
            "component's start) or model.components to 1"
        )
    if not tolerance >= 0:
        raise InputError(f"model.lift_tolerance is {tolerance}; it must be 0 or more, or null")
    if module.init.kind != "lift":
        raise InputError("model.lift_tolerance is for prompts that start at the lift: set model.init.kind to lift")
    if not isinstance(module.objective, ForwardKL):
        raise InputError(
            f"model.lift_tolerance is for KL(target || LM), not for {module.objective.name}: set it to null (the "
            "lift may still be the start) or model.objective to ForwardKL"
        )
