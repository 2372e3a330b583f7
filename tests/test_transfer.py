"""A hard run's prompts on another LM: against transformers, which is given the pasted text."""

import contextlib
import json
import math
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_prompt.data import TargetSet
from lit_prompt.lm import FrozenLM
from lit_prompt.main import main
from tests.conftest import EMBEDDED_GPT2, EMBEDDED_LLAMA, REPOSITORY

EMBEDDED_NEOX = REPOSITORY / "data" / "lms" / "tales-neox"
DIE = {f" {side}": 1 / 6 for side in ("one", "two", "three", "four", "five", "six")}
OWN = [
    {"name": "die", "probs": DIE},
    {"name": "words", "strings": {" the merry king": 0.75, " nobody": 0.25}},
    {"name": "own", "probs": {" yes": 0.25, " no": 0.75}, "context": {"before": "Shall we go?", "after": ""}},
]
CONFIG = """
model:
  class_path: HardPrompt
  init_args:
    {length: 4, steps: 2, start: {kind: random}, before: The king said, after: '"', searcher: {class_path: GCG}}
data:
  families:
"""
NAMED = CONFIG + "    - {class_path: FromFile, init_args: {path: own.jsonl, name: my, strings: first_tokens}}\n"
DENSE = CONFIG + "    - {class_path: EntropyMatched, init_args: {entropies: [1.0, 4.0], per_entropy: 2}}\n"
SOFT = """
model: {class_path: SoftPrompt, init_args: {length: 2, steps: 2}}
data: {families: [{class_path: OneHot, init_args: {count: 1}}]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes (once) a run that has searched a config on the embedded Llama, and that was tested there."""
    runs = {}

    def make(text):
        if text not in runs:
            folder = tmp_path_factory.mktemp("searched")
            (folder / "own.jsonl").write_text("\n".join(map(json.dumps, OWN)))
            (folder / "run.yaml").write_text(text)
            with contextlib.chdir(folder):
                main(["fit", "--config", "run.yaml", "--lm", str(EMBEDDED_LLAMA)])
                main(["test", "--run", "logs/run/version_0", "--floors", "false"])
            runs[text] = folder / "logs"
        return runs[text]

    return make


@pytest.fixture
def searched(made, workdir):
    """Puts such a run into the current folder and gives its path."""

    def run(text):
        shutil.copytree(made(text), "logs")
        return Path("logs/run/version_0")

    return run


def files(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "events" not in path.name}


def on_other(run, name):
    (folder,) = run.glob(f"on-{name}-*")
    return pq.read_table(folder / "results.parquet").to_pylist()


def kl(p, q):
    """KL of probabilities by token id against those of all tokens, ``[vocab]``."""
    return sum(value * math.log(value / float(q[token_id])) for token_id, value in p.items())


def pasted_kl(lm, row, p):
    """KL of a row's prompt, pasted as text, by transformers alone; ``p`` maps texts of tokens to probabilities."""
    tokenizer, model = AutoTokenizer.from_pretrained(lm), AutoModelForCausalLM.from_pretrained(lm, dtype=torch.float32)
    ids = tokenizer(row["context_before"] + row["prompt_text"] + row["context_after"])["input_ids"]
    with torch.no_grad():
        q = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return kl(p, q)


def first_id(lm, text):
    """The first token of a text that continues a line, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(lm)
    line = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a" + text, add_special_tokens=False)["input_ids"]
    assert ids[: len(line)] == line
    return ids[len(line)]


@pytest.mark.parametrize("other", [EMBEDDED_NEOX, EMBEDDED_GPT2])
def test_the_kl_of_named_targets_is_that_of_the_pasted_text(other, cli, searched):
    run = searched(NAMED)
    before = files(run)
    said = cli("test", "--run", run, "--lm", other, "--floors", "false")
    assert {path: content for path, content in files(run).items() if path in before} == before
    rows = {row["target_id"]: row for row in on_other(run, other.name)}
    own = {row["target_id"]: row for row in pq.read_table(run / "results.parquet").to_pylist()}
    assert rows.keys() == own.keys() == {"my/die", "my/words", "my/own"}
    probs = {"my/die": DIE, "my/words": {" the": 0.75, " nobody": 0.25}, "my/own": {" yes": 0.25, " no": 0.75}}
    for name, row in rows.items():
        p = {first_id(other, text): value for text, value in probs[name].items()}
        assert row["kl"] == row["kl_text"] == pytest.approx(pasted_kl(other, row, p), abs=1e-5)
        assert row["prompt_text"] == own[name]["prompt_text"]
        assert row["lm"] == str(other)
        assert row["method"] == "gcg"
        shown = " +".join(f"{value:.3f}" for value in (row["entropy"], own[name]["kl_text"], row["kl"]))
        assert re.search(f"^ {name} +{shown} ", said, re.MULTILINE)  # both KLs stand side by side
    assert rows["my/own"]["context_before"] == "Shall we go?"
    assert f"Prompts found on tales-llama, tested on {other.name}" in " ".join(said.split())


def test_dense_targets_of_the_same_tokenizer_stay_as_they_are(cli, searched):
    run = searched(DENSE)
    cli("test", "--run", run, "--lm", EMBEDDED_NEOX, "--floors", "false")
    batch = TargetSet(run / "targets").batch(range(4))
    for row, log_p in zip(on_other(run, "tales-neox"), batch.log_probs, strict=True):
        p = dict(enumerate(log_p.double().exp().tolist()))
        assert row["kl"] == pytest.approx(pasted_kl(EMBEDDED_NEOX, row, p), abs=1e-5)


def test_dense_targets_of_another_tokenizer_are_told_to_be_lost(cli, searched):
    run = searched(DENSE)
    said = cli("test", "--run", run, "--lm", EMBEDDED_GPT2, code=2)
    assert "of its mass is on tokens that" in said
    assert not [*run.glob("on-*")]


def test_predict_and_validate_take_another_lm_too(cli, searched):
    run = searched(NAMED)
    before = files(run)
    said = cli("validate", "--run", run, "--lm", EMBEDDED_GPT2, "--floors", "false")
    assert "my/die" in said
    assert files(run) == before
    cli("predict", "--run", run, "--lm", EMBEDDED_GPT2)
    (path,) = run.glob("on-tales-gpt2-*/predictions.parquet")
    answers = {(row["target_id"], row["token"]): row["answer"] for row in pq.read_table(path).to_pylist()}
    assert answers["my/words", " the"] == " the merry king"


def test_soft_prompts_are_refused(cli, searched):
    run = searched(SOFT)
    said = cli("test", "--run", run, "--lm", EMBEDDED_NEOX, code=2)
    assert said.splitlines()[-1].startswith(f"lit_prompt: error: --lm: {run} has found soft prompts")


def test_what_stands_in_front_is_the_other_lms_own(cli, workdir, tiny_lm, make_lm_with_front):
    text = CONFIG + "    - {class_path: FromFile, init_args: {path: own.jsonl, name: my, strings: first_tokens}}\n"
    (workdir / "own.jsonl").write_text(json.dumps({"name": "die", "probs": {" three": 0.5, " the": 0.5}}))
    (workdir / "run.yaml").write_text(text)
    other = make_lm_with_front("bos_eos", "gpt2")
    cli("fit", "--config", "run.yaml", "--lm", tiny_lm)
    run = Path("logs/run/version_0")
    cli("test", "--run", run, "--lm", other, "--floors", "false")
    (row,) = on_other(run, other.name)
    assert row["in_front"] == "<s>"
    tokenizer = AutoTokenizer.from_pretrained(other)
    ids = tokenizer(row["context_before"] + row["prompt_text"] + row["context_after"])["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<s>", "</s>"]
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)
    with torch.no_grad():
        q = model(torch.tensor([ids[:-1]])).logits[0, -1].double().softmax(-1)
    names = tokenizer("a three the", add_special_tokens=False)["input_ids"][-2:]
    assert row["kl"] == pytest.approx(kl(dict.fromkeys(names, 0.5), q), abs=1e-5)


def test_the_runs_own_lm_in_another_place_is_its_own(cli, searched, workdir):
    run = searched(NAMED)
    (workdir / "moved").symlink_to(EMBEDDED_LLAMA)
    cli("test", "--run", run, "--lm", workdir / "moved", "--floors", "false")
    assert not [*run.glob("on-*")]
    kls = [pq.read_table(run / f"results{k}.parquet")["kl"].to_pylist() for k in ("", "-1")]
    assert kls[0] == kls[1]


def test_a_prompt_that_is_too_long_for_the_other_lm_is_left_out(cli, searched, monkeypatch, caplog):
    run = searched(NAMED)
    rows = pq.read_table(run / "results.parquet").to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_GPT2)
    texts = {row["target_id"]: row["context_before"] + row["prompt_text"] + row["context_after"] for row in rows}
    lengths = {name: len(tokenizer(text)["input_ids"]) for name, text in texts.items()}
    most = sorted(lengths.values())[1]
    monkeypatch.setattr(FrozenLM, "max_length", most)
    said = cli("test", "--run", run, "--lm", EMBEDDED_GPT2, "--floors", "false")
    kls = {row["target_id"]: row["kl"] for row in on_other(run, "tales-gpt2")}
    assert {name: kl is not None for name, kl in kls.items()} == {name: n <= most for name, n in lengths.items()}
    assert not all(n <= most for n in lengths.values())
    assert any("longer, as texts, than what" in record.message for record in caplog.records)
    assert "no search gave a finite number" not in said
