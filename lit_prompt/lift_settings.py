"""How a soft prompt is searched where nobody says how: the lift, and gradient descent where that is not enough."""

from typing import Any


def lift_settings(components: int) -> dict[str, Any]:
    """Settings of ``SoftPrompt``, plain values; a mixture of several prompts goes on from the lift, however good."""
    settings: dict[str, Any] = {"steps": 300, "patience": 50, "init": {"kind": "lift"}}
    return settings if components > 1 else settings | {"lift_tolerance": 1e-3}
