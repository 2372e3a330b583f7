"""Prompts found from Python: the same as by the command, with nothing written and nothing changed."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import transformers
import yaml

import lit_prompt
from lit_prompt import HardPrompt, SoftPrompt, TargetDataModule, find
from lit_prompt.data.families import EntropyMatched
from lit_prompt.errors import InputError
from lit_prompt.results.rows import Row
from tests.faults.commands import run

TARGETS = [
    {"name": "a", "probs": {" a": 0.5, " the": 0.5}, "context": {"before": "The king"}},
    {"name": "b", "strings": {" very glad": 0.6, " sad": 0.4}},
]
SETTINGS = {
    "soft": {"length": 2, "steps": 15},
    "hard": {"length": 2, "steps": 3, "screening": "never"},
    "text": {"length": 12, "steps": 2, "restarts": 2},
}
CLASSES = {"soft": "SoftPrompt", "hard": "HardPrompt", "text": "TextPrompt"}
SHAPES = {"soft": (2, 32), "hard": (2,), "text": (12,)}


@pytest.fixture
def loaded(tiny_lm):
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_lm)
    return model, transformers.AutoTokenizer.from_pretrained(tiny_lm)


def read(path: Path) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("method", SETTINGS)
def test_it_finds_what_the_command_finds(tiny_lm, loaded, workdir, method):
    model, tokenizer = loaded
    named = find(tiny_lm, TARGETS, method, progress=False, **SETTINGS[method])
    given = find(model, TARGETS, method, tokenizer=tokenizer, progress=False, **SETTINGS[method])
    assert list(workdir.iterdir()) == []  # nothing is written
    (workdir / "given.jsonl").write_text("".join(json.dumps(target) + "\n" for target in TARGETS))
    families = [{"class_path": "FromFile", "init_args": {"path": "given.jsonl", "name": "given"}}]
    model_settings = {"class_path": CLASSES[method], "init_args": SETTINGS[method]}
    settings = {"lm": str(tiny_lm), "model": model_settings, "data": {"families": families}}
    (workdir / "x.yaml").write_text(yaml.safe_dump(settings))
    assert run("fit", "--config", "x.yaml").code == 0
    assert run("test", "--run", "logs/x/version_0").code == 0
    rows = read(workdir / "logs/x/version_0/results.parquet")
    for found in (named, given):
        assert [target.target_id for target in found] == ["given/a", "given/b"]
        assert not found.was_interrupted
        for target, row, own in zip(found, rows, found.rows, strict=True):
            assert target.kl == row["kl"]
            assert target.kl_floor == row["kl_floor"]
            assert (target.text, target.whole_text) == (row["prompt_text"], row["whole_text"])
            assert own.keys() == row.keys()
            assert target.prompt.shape == SHAPES[method]
    wanted, reached = named[1].answers[" sad"]
    assert wanted == pytest.approx(0.4)
    assert 0 < reached < 1


@pytest.mark.parametrize("method", ["soft", "hard", "lift"])
def test_mixtures_are_found_as_by_the_command(tiny_lm, workdir, method):
    settings = SETTINGS.get(method, {"length": 2, "steps": 15}) | {"components": 2, "seed": 1}
    found = find(tiny_lm, TARGETS, method, progress=False, **settings)
    assert any(len(target.weights) == 2 for target in found)
    shape = (2,) if method == "hard" else (2, 32)
    for target, row in zip(found, found.rows, strict=True):
        assert sum(target.weights) == pytest.approx(1.0)
        assert target.weights == sorted(target.weights, reverse=True) == row["weights"]
        assert target.prompt.shape == (len(target.weights), *shape)
        assert (target.texts is not None) == (method == "hard")
        assert target.kl <= row["kl_single"] + 1e-7
        assert target.kl_floor is None or target.kl_floor <= row["kl_single"] + 1e-6
        # each of the prompts alone, found again by its ids or embeddings, and mixed
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_lm).double()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
        if target.target_id == "given/a":
            before, answers = tokenizer("The king", add_special_tokens=False)["input_ids"], [" a", " the"]
            ids = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in answers]
            table = model.get_input_embeddings().weight.detach()
            reached = torch.zeros(2, dtype=torch.float64)
            for weight, prompt in zip(target.weights, torch.tensor(target.prompt), strict=True):
                own = table[prompt] if method == "hard" else prompt.double()
                logits = model(inputs_embeds=torch.cat([table[before], own]).unsqueeze(0)).logits[0, -1]
                reached += weight * logits.softmax(-1)[ids].detach()
            assert [target.answers[text][1] for text in answers] == pytest.approx(reached.tolist(), abs=1e-5)


def test_a_loaded_lm_is_left_as_it_was(loaded):
    model, tokenizer = loaded
    model.train()
    next(model.parameters()).requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    handler = signal.getsignal(signal.SIGINT)
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    found = find(model, {" a": 1}, tokenizer=tokenizer, progress=False, length=1, steps=2)
    assert found[0].target_id == "given/0"
    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
    assert levels == [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    assert signal.getsignal(signal.SIGINT) is handler


def test_families_and_the_lift(tiny_lm, workdir, capfd):
    found = find(tiny_lm, [EntropyMatched(entropies=[1.0], per_entropy=2), {"probs": {" a": 1}}], "lift", length=1)
    assert len(found) == 3
    assert found[-1].target_id.startswith("random/")  # those that are stated come first
    table = found.to_pandas()
    assert list(table["kl"]) == [target.kl for target in found]
    assert "method" in table
    assert found.plot().axes
    assert "<table" in found._repr_html_()
    said = "".join(capfd.readouterr())
    assert "Tip" not in said
    assert "lit_prompt test" not in said
    assert list(workdir.iterdir()) == []


def test_targets_that_are_held_out_are_marked(tiny_lm):
    rows = [
        {"strings": {" a": 1}, "task": "t", "split": "train"},
        {"strings": {" the": 1}, "task": "t", "split": "test"},
    ]
    found = find(tiny_lm, rows, progress=False, length=1, steps=2)
    labels = [text.get_text() for text in found.plot().legends[0].get_texts()]
    assert {"given", "given (held out)"} <= set(labels)


def test_it_works_in_another_thread(tiny_lm):
    found = []
    settings = {"progress": False, **SETTINGS["soft"]}
    thread = threading.Thread(target=lambda: found.append(find(tiny_lm, {" a": 1}, **settings)))
    thread.start()
    thread.join()
    assert found[0][0].kl == find(tiny_lm, {" a": 1}, **settings)[0].kl


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (({" a": 0.5, " the": 0.7},), "targets:1: probabilities of '0' sum to 1.2"),
        (({" a": 1}, "softer"), "method is 'softer'; choose soft, lift, hard or text"),
        (([{"probs": {"no such token at all": 1}}],), "is not exactly one token"),
        (([],), "no targets"),
    ],
)
def test_mistakes_are_one_line(tiny_lm, words, why):
    with pytest.raises(InputError, match=why) as caught:
        find(tiny_lm, *words, progress=False)
    assert "\n" not in str(caught.value)


def test_texts_that_are_scored_one_by_one_are_the_same(tiny_lm, monkeypatch):
    together = find(tiny_lm, TARGETS, "text", progress=False, **SETTINGS["text"])
    monkeypatch.setattr("lit_prompt.models.at_hand._NUMBERS", 1)
    apart = find(tiny_lm, TARGETS, "text", progress=False, **SETTINGS["text"])
    for one, other in zip(together, apart, strict=True):
        assert one.text == other.text
        assert one.kl == pytest.approx(other.kl, abs=1e-6)


def test_wrong_settings_are_named(tiny_lm, loaded):
    with pytest.raises(InputError, match="'lenght'; the settings are those of SoftPrompt, HardPrompt and TextPrompt"):
        find(tiny_lm, {" a": 1}, lenght=3)
    with pytest.raises(InputError, match="needs its tokenizer"):
        find(loaded[0], {" a": 1})


_INTERRUPTED = """
import sys
from lit_prompt import find
found = find(sys.argv[1], [{"probs": {" a": 1}}, {"probs": {" the": 1}}], length=2, steps=10**6, chunk_size=1)
print("KL", found.was_interrupted, [target.kl for target in found])
"""


def test_an_interruption_gives_what_was_found(tiny_lm, workdir):
    command = [sys.executable, "-c", _INTERRUPTED, str(tiny_lm)]
    shown = workdir / "shown"
    with shown.open("w") as out, subprocess.Popen(command, text=True, stdout=out, stderr=subprocess.STDOUT) as process:
        end = time.monotonic() + 120
        while "median KL" not in shown.read_text():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                pytest.fail(shown.read_text())
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    said = shown.read_text()
    assert process.returncode == 0, said
    assert "\nKL True [" in said
    assert "Traceback" not in said


def test_names_are_there_and_others_are_not():
    assert lit_prompt.SoftPrompt is SoftPrompt
    assert lit_prompt.HardPrompt is HardPrompt
    assert lit_prompt.TargetDataModule is TargetDataModule
    with pytest.raises(AttributeError, match="no attribute 'searching'"):
        _ = lit_prompt.searching
    code = "import sys, lit_prompt; assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
