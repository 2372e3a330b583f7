"""Our part of ``checkpoints/last.ckpt``, in which a run of a former version kept all its results."""

from typing import Any

from lit_prompt.errors import InputError

_KEY = "lit_prompt"
_VERSION = 3  # the last


def get_contents(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Results, and what they belong to, in today's form.

    Raises:
        InputError: if it is none of ours, or a newer lit_prompt wrote it.
    """
    saved = checkpoint.get(_KEY)
    if saved is None:
        raise InputError("--ckpt_path: this checkpoint was not written by lit_prompt")
    if saved.get("format", 1) > _VERSION:
        raise InputError("--ckpt_path: a newer lit_prompt wrote this checkpoint; use that version or a later one")
    contents: dict[str, Any] = {"in_front": [], **saved}  # up to format 2 nothing stood in front of a text
    if "bank" in contents:  # the results' former name
        contents["results"] = contents.pop("bank")
    return contents
