"""Checkpoints of former versions, in which a run kept all its results."""

from typing import TYPE_CHECKING, Any

from lit_prompt.errors import InputError
from lit_prompt.models.belonging import refuse_foreign
from lit_prompt.records.checkpoint import get_contents
from lit_prompt.search import SearchResults

if TYPE_CHECKING:
    from lit_prompt.models.base import PromptModule


def read_former(checkpoint: dict[str, Any], module: "PromptModule") -> None:
    """Restores the results of a run, which can be evaluated but not gone on with.

    Raises:
        InputError: if they belong to another LM, other targets or other settings, or are to be gone on with.
    """
    if module.trainer.state.fn == "fit":
        raise InputError(
            "--ckpt_path: a former lit_prompt wrote this checkpoint; it can be tested as it is, but to resume its "
            "search use that version, or start anew"
        )
    saved = get_contents(checkpoint)
    refuse_foreign(saved, module, "the checkpoint")
    module.results = SearchResults.from_state_dict(saved["results"])
