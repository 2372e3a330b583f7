"""Weights that are in no file, in whose place transformers would go on with random numbers."""

from typing import Any

from lit_prompt.errors import InputError


def refuse_lacking(lm: str, report: dict[str, Any]) -> None:
    """Refuses an LM whose files lack weights, by what ``from_pretrained`` reports with ``output_loading_info``.

    Raises:
        InputError: names the first of them.
    """
    if missing := sorted(report["missing_keys"]):
        lacking = f"lack {len(missing)} weights that its configuration calls for, such as {missing[0]}"
        raise InputError(f"--lm: the files of {lm} {lacking}")
