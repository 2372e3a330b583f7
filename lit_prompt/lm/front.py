"""What stands in front of a text: the tokens by which an LM is told that one begins."""

from typing import Any, Literal

from lit_prompt.errors import InputError

#: Whether BOS stands in front: as the tokenizer has it, always, never.
Bos = Literal["auto", "always", "never"]

_PROBE = "a"


def front_ids(tokenizer: Any, bos: Bos) -> list[int]:
    """What stands in front of every text.

    Args:
        tokenizer: a ``transformers`` tokenizer.
        bos: ``auto``: what the tokenizer itself adds in front. ``always``: that, and where it is nothing, BOS.
            ``never``: nothing.

    Raises:
        InputError: if BOS is to stand there and the tokenizer has none, or what it adds cannot be told.
    """
    if bos == "never":
        return []
    added = _added_in_front(tokenizer)
    if added or bos == "auto":
        return added
    if tokenizer.bos_token_id is None:
        name = tokenizer.name_or_path or "the LM"
        raise InputError(f"lm_options.bos is always, but the tokenizer of {name} has no BOS; set it to auto or never")
    return [int(tokenizer.bos_token_id)]


def _added_in_front(tokenizer: Any) -> list[int]:
    """What a tokenizer adds in front of a text, but not what it appends: a prompt is to be continued."""
    plain, whole = (tokenizer(_PROBE, add_special_tokens=added)["input_ids"] for added in (False, True))
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return [int(i) for i in whole[:start]]
    raise InputError(
        f"{tokenizer.name_or_path or 'the LM'}: what its tokenizer puts in front of a text cannot be told; set "
        "lm_options.bos to never, and spell it in model.before where it is to stand there"
    )
