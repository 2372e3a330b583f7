"""Our part of ``checkpoints/last.ckpt``, beside what Lightning keeps: its place, its version, its former forms."""

from typing import Any

from lit_prompt.errors import InputError

_KEY = "lit_prompt"
# 1, of lit_prompt 0.1, held the chunk under way in another form; up to 2 nothing stood in front of a text
_VERSION = 3
_FIRST_RESUMABLE = 2


def put_contents(checkpoint: dict[str, Any], contents: dict[str, Any]) -> None:
    """Puts results, search state and what they belong to into a checkpoint."""
    checkpoint[_KEY] = {"format": _VERSION, **contents}


def get_contents(checkpoint: dict[str, Any], resumed: bool) -> dict[str, Any]:
    """What :func:`put_contents` has put there, in today's form.

    Raises:
        InputError: if it is none of ours, a newer lit_prompt wrote it, or it is to be ``resumed`` and cannot be.
    """
    saved = checkpoint.get(_KEY)
    if saved is None:
        raise InputError("--ckpt_path: this checkpoint was not written by lit_prompt")
    version = saved.get("format", 1)
    if version > _VERSION:
        raise InputError("--ckpt_path: a newer lit_prompt wrote this checkpoint; use that version or a later one")
    if resumed and version < _FIRST_RESUMABLE:
        raise InputError(
            "--ckpt_path: lit_prompt 0.1 wrote this checkpoint; it can be tested as it is, but to resume its search "
            "use that version, or start anew"
        )
    contents: dict[str, Any] = {"in_front": [], "extended_from": 0, **saved}
    if "bank" in contents:  # the results' former name
        contents["results"] = contents.pop("bank")
    return contents
