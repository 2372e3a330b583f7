"""Adapters of PEFT, which transformers leaves out without a word where peft is not installed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError

#: Files of an adapter.
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def refuse_adapter(lm: str, source: dict[str, Any]) -> None:
    """Refuses an LM that is an adapter, or that has one beside its own weights.

    Args:
        lm: hub id or local folder.
        source: where ``from_pretrained`` is to look.

    Raises:
        InputError: if there is one; it says how to merge it.
    """
    folder = Path(lm)
    if folder.exists():
        found = next((folder / name for name in (CONFIG, WEIGHTS) if (folder / name).is_file()), None)
        holds = "a PEFT adapter beside its model" if (folder / "config.json").is_file() else "a PEFT adapter alone"
    else:
        found, holds = _on_hub(lm, source["revision"], source["local_files_only"]), "a PEFT adapter"
    if found is not None:
        raise InputError(
            f"--lm: {lm} holds {holds}{_base(found)}; adapters are not loaded: merge it into its model "
            "(merge_and_unload of peft), save that and its tokenizer with save_pretrained, and give the new folder"
        )


@cache  # the hub is asked once for the tokenizer and the model
def _on_hub(lm: str, revision: str, local_files_only: bool) -> Path | None:
    from transformers.utils import peft_utils

    try:
        found = peft_utils.find_adapter_config_file(lm, revision=revision, local_files_only=local_files_only)
    except Exception:  # what is wrong with the name or the hub is told when the LM itself is loaded
        return None
    return None if found is None else Path(found)


def _base(config: Path) -> str:
    try:
        name = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    return f" (for {name})" if name else ""
