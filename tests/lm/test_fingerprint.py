"""The fingerprint stands for the function that the LM computes, and for nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_prompt.lm import FrozenLM, LMOptions, load_causal_lm
from lit_prompt.lm.fingerprint import lm_fingerprint
from tests.conftest import ARCHITECTURES

MakeLM = Callable[..., Path]


def fingerprint(folder: Path, **options: Any) -> str:
    return lm_fingerprint(load_causal_lm(str(folder), LMOptions(**options)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_weights_in_another_folder_have_the_same_fingerprint(
    architecture: str, make_lm: MakeLM, tmp_path: Path
) -> None:
    folder = make_lm(architecture)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(folder) == fingerprint(copy)


def test_same_weights_saved_in_parts_have_the_same_fingerprint(tiny_lm: Path, tmp_path: Path) -> None:
    load_causal_lm(str(tiny_lm), LMOptions()).save_pretrained(tmp_path, max_shard_size="20KB")
    assert fingerprint(tiny_lm) == fingerprint(tmp_path)


def test_dtype_of_the_files_does_not_count(make_lm: MakeLM, tmp_path: Path) -> None:
    halves = make_lm("llama", dtype=torch.float16)
    load_causal_lm(str(halves), LMOptions()).save_pretrained(tmp_path)
    assert fingerprint(halves) == fingerprint(tmp_path)


def test_dtype_in_use_counts(make_lm: MakeLM) -> None:
    halves = make_lm("llama", dtype=torch.float16)
    dtypes = ("float16", "bfloat16", "float32", "float64")
    assert len({fingerprint(halves, dtype=dtype) for dtype in dtypes}) == len(dtypes)
    assert fingerprint(halves, dtype="auto") == fingerprint(halves, dtype="float16")


def test_attention_implementation_does_not_count(tiny_lm: Path) -> None:
    assert fingerprint(tiny_lm, attention="eager") == fingerprint(tiny_lm, attention="sdpa")


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi"])
def test_every_weight_counts_to_its_last_bit(architecture: str, make_lm: MakeLM) -> None:
    model = load_causal_lm(str(make_lm(architecture)), LMOptions())
    seen = {lm_fingerprint(model)}
    parameters = list(model.parameters())
    for parameter in parameters:
        last = parameter.view(-1)[-1:]
        last.copy_(torch.nextafter(last, last + 1))
        seen.add(lm_fingerprint(model))
    assert len(seen) == len(parameters) + 1


def test_place_of_a_weight_counts(tiny_lm: Path) -> None:
    model = load_causal_lm(str(tiny_lm), LMOptions())
    before = lm_fingerprint(model)
    first, second = (layer.self_attn.q_proj for layer in model.model.layers)
    first.weight, second.weight = second.weight, first.weight
    assert lm_fingerprint(model) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 1e-3},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_config_counts(changes: dict[str, Any], tiny_lm: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_lm, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    assert fingerprint(copy) != fingerprint(tiny_lm)


def test_using_the_lm_does_not_change_its_fingerprint(tiny_lm: Path) -> None:
    lm = FrozenLM(load_causal_lm(str(tiny_lm), LMOptions()))
    x = lm.embed(torch.arange(5).unsqueeze(0)).clone().requires_grad_(True)
    lm.next_token_logits(x).logsumexp(-1).sum().backward()
    assert lm.fingerprint == lm_fingerprint(lm.model) == fingerprint(tiny_lm)
