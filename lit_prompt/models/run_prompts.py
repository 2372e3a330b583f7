"""The prompts that another run has found, read to start from."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lit_prompt.errors import InputError
from lit_prompt.files import newest
from lit_prompt.lm import FrozenLM
from lit_prompt.records.prompts import WEIGHTS, read_prompts
from lit_prompt.records.results import read_results


def prompts_file(folder: str, setting: str) -> Path:
    """The newest file of prompts in a run's folder.

    Raises:
        InputError: if there is none; it names the ``setting`` that gave the folder.
    """
    path = newest(Path(os.path.expanduser(folder)), "prompts.safetensors")
    if path is None:
        command = f"lit_prompt fit --run {shlex.quote(folder)}"
        raise InputError(f"{setting}: {folder} holds no prompts; run {command} to its end first")
    return path


def run_prompts(folder: str, setting: str, lm: FrozenLM, target_ids: Sequence[str]) -> tuple[Path, dict[str, Tensor]]:
    """The newest file of prompts in a run's folder, and its prompts by target: of a mixture that of most weight.

    Raises:
        InputError: if there is none, they belong to another LM, a target has none, or the run's results are of prompts
            that it does not hold.
    """
    path = prompts_file(folder, setting)
    if (results := newest(path.parent, "results.parquet")) is not None:
        read_results(results, path.parent)  # whose prompts are there, else these may be another run's
    prompts, about = read_prompts(path)
    if about.get("lm_fingerprint") != lm.fingerprint:
        raise InputError(f"{path}: these prompts belong to another LM, {about.get('lm')}; give the same --lm")
    for target_id in target_ids:
        if target_id not in prompts:
            raise InputError(f"{path}: has no prompt for the target {target_id}; give both runs the same data")
    for target_id, weights in json.loads(about.get(WEIGHTS, "{}")).items():
        prompts[target_id] = prompts[target_id][weights.index(max(weights))]
    return path, {target_id: torch.from_numpy(prompt) for target_id, prompt in prompts.items()}
