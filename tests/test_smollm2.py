"""Prompts for a real LM, searched by the command, have their KL in plain transformers: slow, and only where asked for.

make smollm2
LIT_PROMPT_SLOW=1 pytest -n 0 tests/test_smollm2.py
"""

import json
import os
from pathlib import Path

import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from tests.conftest import REPOSITORY
from tests.saved import saved

FILE = REPOSITORY / "data" / "lms" / "SmolLM2-135M-Instruct.Q4_1.gguf"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("LIT_PROMPT_SLOW") != "1", reason="takes minutes; set LIT_PROMPT_SLOW=1"),
    pytest.mark.skipif(not FILE.exists(), reason=f"no {FILE.name}; run make smollm2"),
]
BEFORE = "The old man threw the die and it showed the number"
DICE = REPOSITORY / "data" / "targets" / "die.jsonl"
CONFIG = """\
model: {class_path: %s, init_args: {before: %s, %s}}
data: {families: [{class_path: FromFile, init_args: {path: %s, name: die}}]}
trainer: {accelerator: cpu}
"""


@pytest.fixture(scope="module")
def plain():
    """Model and tokenizer as transformers reads them from the file."""
    where = {"pretrained_model_name_or_path": str(FILE.parent), "gguf_file": FILE.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    quantization = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(**where, quantization_config=quantization).float().eval(), tokenizer


@pytest.fixture
def dice(plain):
    """The targets of the file as dense distributions, by id."""
    model, tokenizer = plain
    found = {}
    for line in DICE.read_text(encoding="utf-8").splitlines():
        die = json.loads(line)
        p = torch.zeros(model.config.vocab_size, dtype=torch.float64)
        for token, mass in zip(die.get("tokens", die["probs"]), list_of(die["probs"]), strict=True):
            (token_id,) = tokenizer.encode(token)
            p[token_id] = mass
        found[f"die/{die['name']}"] = p / p.sum()
    return found


def list_of(probs):
    return list(probs.values()) if isinstance(probs, dict) else probs


def searched(cli, kind, settings):
    """KL of each target as the search has it, and the run's folder."""
    Path("real.yaml").write_text(CONFIG % (kind, json.dumps(BEFORE), settings, json.dumps(str(DICE))))
    cli("fit", "--config", "real.yaml", "--lm", FILE)
    run = Path("logs/real/version_0")
    return saved(run)["kl"].amin(1).tolist(), run


def check(model, dice, kls, prompts, most):
    """The search's KL is that of the LM after the whole prompts, and low enough to have been searched."""
    for (target_id, inputs), kl in zip(prompts.items(), kls, strict=True):
        with torch.no_grad():
            q = model(**inputs).logits[0, -1].double().softmax(-1)
        assert kl == pytest.approx(scipy.stats.entropy(dice[target_id].numpy(), q.numpy()), abs=1e-4)
        assert kl < most


def test_hard_prompts(cli, plain, dice):
    model, tokenizer = plain
    start = "start: {random_sequences: 8, sampled_texts: 0, drawn_sequences: 4}"
    kls, run = searched(cli, "HardPrompt", f"length: 6, steps: 4, {start}")
    rows = map(json.loads, (run / "prompts.jsonl").read_text(encoding="utf-8").splitlines())
    prompts = {row["target_id"]: tokenizer(BEFORE + row["text"], return_tensors="pt") for row in rows}
    check(model, dice, kls, prompts, 1.0)


def test_soft_prompts(cli, plain, dice):
    model, tokenizer = plain
    kls, run = searched(cli, "SoftPrompt", "length: 3, steps: 20")
    before = model.get_input_embeddings()(tokenizer(BEFORE, return_tensors="pt")["input_ids"][0])
    found = load_file(run / "prompts.safetensors")
    prompts = {name: {"inputs_embeds": torch.cat([before, found[name]]).unsqueeze(0)} for name in dice}
    check(model, dice, kls, prompts, 0.5)
