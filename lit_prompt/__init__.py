"""lit_prompt: search the prompt that makes a language model produce a given next-token distribution."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_prompt.data.datamodule import TargetDataModule
    from lit_prompt.finding import find
    from lit_prompt.models import HardPrompt, SoftPrompt, TextPrompt

__version__ = "0.1.0"
__all__ = ["HardPrompt", "SoftPrompt", "TargetDataModule", "TextPrompt", "find"]

# imported when they are asked for: the command answers before anything heavy is loaded
_PLACES = {
    "HardPrompt": "lit_prompt.models",
    "SoftPrompt": "lit_prompt.models",
    "TextPrompt": "lit_prompt.models",
    "TargetDataModule": "lit_prompt.data.datamodule",
    "find": "lit_prompt.finding",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
