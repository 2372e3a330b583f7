"""Keys of former versions, which a config may still have: model and data had copies of what one of them owns now."""

from typing import Any

FORMER_KEYS_HINT = "the LM is given as lm and lm_options at the top, and the steps as those of the model"
_FORMER = {
    "model": ("lm", "lm_options"),
    "model.init_args": ("lm", "lm_options"),
    "data": ("lm", "lm_options", "steps"),
}


def drop_former_keys(settings: dict[str, Any]) -> list[str]:
    """Takes keys of former versions out of a config's settings and returns their names."""
    found = []
    for group, keys in _FORMER.items():
        owner: Any = settings
        for name in group.split("."):
            owner = owner.get(name) if isinstance(owner, dict) else None
        if isinstance(owner, dict):
            found += [f"{group}.{key}" for key in keys if owner.pop(key, owner) is not owner]
    return found
