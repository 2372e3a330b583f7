"""What is drawn from the LM: the ways of sampling, draws and their test, asking in words, search at a temperature."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from scipy.special import rel_entr

from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS
from tests.saved import saved

LINES = [
    {"name": "plain", "probs": {" a": 0.5, " the": 0.5}},
    {"name": "long", "context": {"after": " He was"}, "strings": {" very glad": 0.6, " sad": 0.4}},
]
CONFIG = """
model: {{class_path: {model}, init_args: {{length: 2, steps: {steps}, temperature: {temperature}}}}}
data: {{families: [{{class_path: FromFile, init_args: {{path: targets.jsonl}}}}]}}
"""


@pytest.fixture
def run(cli, workdir, tiny_lm):
    (workdir / "targets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))

    def search(model="SoftPrompt", temperature=1.0, steps=6, number=0):
        (workdir / "c.yaml").write_text(CONFIG.format(model=model, temperature=temperature, steps=steps))
        cli("fit", "--config", "c.yaml", "--lm", tiny_lm)
        return workdir / "logs" / "c" / f"version_{number}"

    return search


def rows(run, number=""):
    return {row["target_id"]: row for row in RESULTS.read(run / f"results{number}.parquet").to_pylist()}


def logits(lm, prompt, after=()):
    raw = transformers.AutoModelForCausalLM.from_pretrained(lm).double().eval()
    table = raw.get_input_embeddings()
    own = prompt.unsqueeze(0).double() if prompt.is_floating_point() else table(prompt.unsqueeze(0))
    with torch.no_grad():
        whole = torch.cat([own, table(torch.tensor([list(after)], dtype=torch.long))], 1)
        return raw(inputs_embeds=whole).logits[0]


def test_the_kl_of_what_is_sampled_is_that_of_generate(cli, run, tiny_lm):
    folder = run()
    said = cli("test", "--run", folder, "--sampling.temperature", 0.7, "--sampling.top_k", 100)
    assert "As tokens are sampled: temperature 0.7, top_k 100" in " ".join(said.split())
    found = rows(folder)["user/plain"]
    z = logits(tiny_lm, load_file(folder / "prompts.safetensors")["user/plain"])[-1] / 0.7
    z[z < z.topk(100).values[-1]] = -torch.inf
    q = z.softmax(0).numpy()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (" a", " the")]
    assert found["sampled_kl"] == pytest.approx(rel_entr([0.5, 0.5], q[ids]).sum(), abs=1e-5)
    assert found["sampling"] == "temperature 0.7, top_k 100"
    said = cli("predict", "--run", folder, "--sampling.temperature", 0.7, "--sampling.top_k", 100)
    assert "token target reached KL sampled" in " ".join(said.split())
    records = PREDICTIONS.read(folder / "predictions.parquet").to_pylist()
    told = {row["token"]: row["sampled_probability"] for row in records if row["target_id"] == "user/plain"}
    assert [told[text] for text in (" a", " the")] == pytest.approx(q[ids], abs=1e-6)
    assert all(row["sampled_probability"] is not None for row in records)


def test_answers_are_sampled_token_by_token(cli, run, tiny_lm):
    folder = run()
    cli("test", "--run", folder, "--sampling.temperature", 0.5)
    found = rows(folder)["user/long"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    after = tokenizer(" He was", add_special_tokens=False)["input_ids"]
    prompt, q = load_file(folder / "prompts.safetensors")["user/long"], []
    for text in (" very glad", " sad"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        log_q = (logits(tiny_lm, prompt, [*after, *ids])[-len(ids) - 1 : -1] / 0.5).log_softmax(-1)
        q.append(float(log_q[torch.arange(len(ids)), ids].sum().exp()))
    assert found["sampled_kl"] == pytest.approx(rel_entr([0.6, 0.4], q).sum(), abs=1e-5)


def test_draws_are_counted_and_tested(cli, run):
    folder = run()
    said = cli("test", "--run", folder, "--draws", 50)
    found = rows(folder)
    assert found["user/plain"]["draws"] == found["user/long"]["draws"] == 50
    assert found["user/plain"]["draws_p_value"] == 0.0  # most of an untrained LM's tokens are none of the two
    assert found["user/plain"]["draws_to_tell"] == 1
    assert "user/plain: 50 draws" in said
    again = cli("test", "--run", folder, "--draws", 50)
    assert said[said.index("user/plain: 50 draws") :][:300] == again[again.index("user/plain: 50 draws") :][:300]


def test_asking_in_words_is_scored_as_any_prompt(cli, run, tiny_lm):
    folder = run()
    cli("test", "--run", folder, "--asking", "Say one of {odds}:")
    found = rows(folder)["user/plain"]
    assert found["asking_text"] == "Say one of 'the' 50 %, 'a' 50 %:"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    ids = torch.tensor(tokenizer(found["asking_text"], add_special_tokens=False)["input_ids"])
    q = logits(tiny_lm, ids)[-1].softmax(0).numpy()
    own = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (" a", " the")]
    assert found["kl_asking"] == pytest.approx(rel_entr([0.5, 0.5], q[own]).sum(), abs=1e-5)
    assert "the text must hold {odds}" in cli("test", "--run", folder, "--asking", "heads or tails", code=2)


@pytest.mark.parametrize("model", ["SoftPrompt", "HardPrompt"])
def test_a_search_minimises_at_its_temperature(cli, run, model):
    folder = run(model, temperature=0.5, steps=4)
    kept = saved(folder)
    cli("test", "--run", folder)
    found = rows(folder)
    for number, name in enumerate(("user/plain", "user/long")):
        assert found[name]["sampled_kl"] == pytest.approx(float(kept["kl"][number, 0]), abs=2e-5)
        assert found[name]["sampling"] == "temperature 0.5"
        assert found[name]["objective_value"] == pytest.approx(found[name]["sampled_kl"])
        assert np.isfinite(found[name]["kl"])


def test_bad_settings_are_one_line(cli, run):
    folder = run()
    assert "sampling.temperature is 0" in cli("test", "--run", folder, "--sampling.temperature", 0, code=2)
    assert "--draws is -1" in cli("test", "--run", folder, "--draws", -1, code=2)
    assert "model.temperature is 0" in cli("fit", "--config", "c.yaml", "--model.temperature", 0, code=2)
