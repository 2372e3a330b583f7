"""An evaluation that names another LM than the run's own."""

from pathlib import Path
from typing import Any

import torch

from lit_prompt.cli.trust import files_are_trusted
from lit_prompt.data.datamodule import TargetDataModule
from lit_prompt.errors import InputError
from lit_prompt.files import newest
from lit_prompt.lm import FrozenLM, LMOptions
from lit_prompt.models import PromptModule
from lit_prompt.models.driven import DrivenPrompt
from lit_prompt.models.pasted import PastedTexts
from lit_prompt.records.checksum import CHECKSUM
from lit_prompt.records.prompt_texts import read_texts
from lit_prompt.records.prompts import read_prompts
from lit_prompt.served.served import Served, as_served, lm_name


def pasted_texts(
    search: PromptModule, data: TargetDataModule, run: Path, settings: dict[str, Any], device: torch.device
) -> PastedTexts | None:
    """A run's prompts for another LM; None where the LM that is named is the run's own.

    The data module is told to carry the targets over.

    Args:
        search: the run's module.
        data: names the LM.
        run: the run's folder.
        settings: the run's own.
        device: for the LM.

    Raises:
        InputError: if the prompts are no texts.
    """
    if data.served is not None:
        _refuse_other_served(run, data.served, settings.get("lm"))
        return None
    own, options = lm_name(settings.get("lm")), settings.get("lm_options") or {}
    prompts = newest(run, "prompts.safetensors")
    same_options = all(getattr(data.lm_options, name, value) == value for name, value in options.items())
    if prompts is None or settings.get("lm") is None or (data.lm == own and same_options):
        return None
    found, about = read_prompts(prompts)
    lm = FrozenLM.load(data.lm, data.lm_options, device)
    if lm.fingerprint == about.get("lm_fingerprint"):
        return None  # it has another place now
    texts = newest(run, "prompts.jsonl")
    if texts is None or not isinstance(search, DrivenPrompt):
        raise InputError(
            f"--lm: {run} has found soft prompts, embeddings of {own} that mean nothing to another LM such as "
            f"{data.lm}; only hard prompts, which are texts, can be tested on one"
        )
    # what was typed is of the LM that was named, and the run's folder is not asked
    trusted = {"trust_remote_code": data.lm_options.trust_remote_code if own == data.lm else files_are_trusted()}
    data.made_for, data.searched = (own, LMOptions(**options | trusted)), about.get("targets")
    checksum = about.get(CHECKSUM)
    return PastedTexts(read_texts(texts, found, checksum), lm, checksum)


def _refuse_other_served(run: Path, served: Served, own: Any) -> None:
    """Refuses to evaluate on a server what was found on an LM at hand.

    Raises:
        InputError: if that is so.
    """
    if own is not None and as_served(own) is None:
        raise InputError(
            f"--lm: {run} was searched on an LM at hand; what its prompts reach behind a server says lit_prompt score "
            f"--run {run} --server {served.urls[0]}"
        )
