"""Settings of former versions, which a config may still hold, brought up to date; for one release."""

from typing import Any

_OWNED_ELSEWHERE = {
    "model": ("lm", "lm_options"),
    "model.init_args": ("lm", "lm_options"),
    "data": ("lm", "lm_options", "steps"),
}


def update_former_settings(settings: dict[str, Any]) -> list[str]:
    """Updates a config's settings in place and tells what was changed, a note for each change."""
    notes = []
    for group, keys in _OWNED_ELSEWHERE.items():
        owner: Any = settings
        for name in group.split("."):
            owner = owner.get(name) if isinstance(owner, dict) else None
        if isinstance(owner, dict):
            found = [f"{group}.{key}" for key in keys if owner.pop(key, owner) is not owner]
            notes += [f"{key} left out: lm and lm_options stand at the top, steps in the model" for key in found]
    model = settings.get("model")
    if isinstance(model, str):
        model = settings["model"] = {"class_path": model}
    if isinstance(model, dict) and str(model.get("class_path", "")).rpartition(".")[2] == "LiftPrompt":
        arguments = model.get("init_args") or {}
        lifted = {"length": 1, "init": {"kind": "lift"}, "lift_tolerance": arguments.pop("tolerance", 1e-3)}
        settings["model"] = {"class_path": "SoftPrompt", "init_args": lifted | arguments}
        notes.append("LiftPrompt is now SoftPrompt with init.kind lift and a lift_tolerance")
    return notes


def add_former_defaults(settings: dict[str, Any]) -> None:
    """Adds in place what a former version did to the settings that a search of it has saved."""
    options = settings.get("lm_options") or {}
    if "lm" in settings and isinstance(options, dict):  # a training has no LM
        settings["lm_options"] = {"bos": "never"} | options  # nothing stood in front of a text
