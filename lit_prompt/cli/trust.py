"""Whether an LM's own program code may run: the command line or the environment says so, never a file."""

import os
from collections.abc import Sequence
from typing import Any

from lit_prompt.errors import InputError

_OPTION = "lm_options.trust_remote_code"
#: Environment variable with which files may ask for it.
_VARIABLE = "LIT_PROMPT_TRUST_REMOTE_CODE"


def files_are_trusted() -> bool:
    """Whether files may ask that an LM's own program code be run."""
    return bool(os.environ.get(_VARIABLE))


def refuse_untrusted(settings: dict[str, Any], typed: Sequence[str]) -> None:
    """Refuses settings that would have an LM's own program code run, unless that was typed or the environment has it.

    Args:
        settings: all of them, from files and the command line.
        typed: the options on the command line; what they say of ``lm_options`` is of the LM alone, not of a family's.

    Raises:
        InputError: says what to type.
    """
    if any(option.removeprefix("--").partition("=")[0] == _OPTION for option in typed):
        settings = {name: value for name, value in settings.items() if name != "lm_options"}
    data = settings.get("data")
    if isinstance(data, dict):  # which is given those of the LM
        settings = settings | {"data": {name: value for name, value in data.items() if name != "lm_options"}}
    if not files_are_trusted() and _asks(settings):
        raise InputError(
            "lm_options.trust_remote_code is on in a file, which is not trusted to have program code run that comes "
            f"with an LM; read that code, then add --{_OPTION} true, or for all LMs that files name set {_VARIABLE}=1"
        )


def _asks(settings: Any) -> bool:
    if isinstance(settings, dict):
        return bool(settings.get("trust_remote_code")) or any(map(_asks, settings.values()))
    return isinstance(settings, list) and any(map(_asks, settings))
