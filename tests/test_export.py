"""Prompts that leave their run, read by programs that do not know this project: they reach what the run says."""

import base64
import io
import json
import re
import runpy
import shutil
import stat
import subprocess
import sys
from ast import literal_eval
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_prompt.data import TargetSet
from lit_prompt.export import exporter
from lit_prompt.export.exporter import FORMS, file_names
from tests.conftest import EMBEDDED_LLAMA
from tests.faults.commands import inside, run

TARGETS = [
    {"name": "a/b", "context": {"before": "The king", "after": " He was"}, "probs": {" a": 0.5, " the": 0.5}},
    {"name": "a.b", "probs": {" red": 0.9, " blue": 0.1}},
    {"name": "answers", "context": {"before": "Yes,"}, "strings": {" very glad": 0.6, " sad": 0.3, " very sad": 0.1}},
    {"name": "cells", "cells": {"glad": [" happy", " very glad"], "not": [" sad"]}, "probs": {"glad": 0.7, "not": 0.3}},
]
MODELS = {
    "soft": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 20}},
    "hard": {"class_path": "HardPrompt", "init_args": {"length": 3, "steps": 3, "screening": "never"}},
    "mixture": {
        "class_path": "HardPrompt",
        "init_args": {"length": 3, "steps": 6, "components": 2, "screening": "never"},
    },
    "soft_mixture": {"class_path": "SoftPrompt", "init_args": {"length": 2, "steps": 40, "components": 2}},
    "lift": {"class_path": "SoftPrompt", "init_args": {"length": 1, "steps": 3, "init": {"kind": "lift"}}},
}
OVER_TOKENS = ("a/b", "a.b")


def _run(name: str) -> Path:
    return Path("logs", name, "version_0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tested run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    with inside(folder):
        for name, model in MODELS.items():
            rows = [target for target in TARGETS if name != "lift" or target["name"] == "a.b"]
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            families = [{"class_path": "FromFile", "init_args": {"path": f"{name}.jsonl"}}]
            settings = {"lm": str(EMBEDDED_LLAMA), "model": model, "data": {"families": families}}
            Path(f"{name}.yaml").write_text(yaml.safe_dump(settings))
            for words in (("fit", "--config", f"{name}.yaml"), ("test", "--run", _run(name))):
                outcome = run(*words)
                assert outcome.code == 0, outcome.said
    return folder


@pytest.fixture
def here(runs: Path, workdir: Path) -> Path:
    """The current folder, with the runs."""
    shutil.copytree(runs / "logs", workdir / "logs")
    return workdir


@pytest.fixture(scope="module")
def lm():
    """Model and tokenizer, as anybody loads them."""
    return AutoModelForCausalLM.from_pretrained(
        EMBEDDED_LLAMA, dtype=torch.float32
    ).eval(), AutoTokenizer.from_pretrained(EMBEDDED_LLAMA)


def exported(name: str, form: str, *words: object) -> list[dict]:
    """What an export says of each target."""
    outcome = run("export", "--run", _run(name), "--format", form, "--out", "out", *words)
    assert outcome.code == 0, outcome.said
    assert "Warning" not in outcome.said
    if form == "text":
        return [json.loads(line) for line in Path("out/prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    return json.loads(Path("out/export.json").read_text(encoding="utf-8"))


def run_kl(name: str) -> dict[str, float]:
    table = pq.read_table(_run(name) / "results.parquet", columns=["target_id", "kl"]).to_pydict()
    return dict(zip(table["target_id"], table["kl"], strict=True))


def kl_of(name: str, target_id: str, logits: torch.Tensor) -> float:
    """KL of a target over tokens from plain logits, in float64."""
    targets = TargetSet(_run(name) / "targets")
    log_p = targets.batch([targets.target_id.index(target_id)]).log_probs[0].double().log_softmax(-1)
    log_q = logits.double().log_softmax(-1)
    return float(torch.where(log_p.isfinite(), log_p.exp() * (log_p - log_q), 0.0).sum())


@torch.no_grad()
def reached(form: str, row: dict, lm) -> torch.Tensor:
    """Next-token logits after an exported prompt, by what it is for."""
    if form == "peft":
        from peft import PeftModel

        plain = AutoModelForCausalLM.from_pretrained(EMBEDDED_LLAMA, dtype=torch.float32)
        model = PeftModel.from_pretrained(plain, f"out/{row['file']}")
        after = lm[1](row["after"], add_special_tokens=False, return_tensors="pt")["input_ids"].long()
        return model(input_ids=after).logits[0, -1]
    if form == "embeds":
        body = json.loads(Path("out", row["request"]).read_text())
        embeddings = torch.load(io.BytesIO(base64.b64decode(body["prompt_embeds"])), weights_only=True)
        assert torch.equal(embeddings, load_file(f"out/{row['file']}")["prompt_embeds"])
        return lm[0](inputs_embeds=embeddings[None]).logits[0, -1]
    return lm[0](**lm[1](row["whole_text"], return_tensors="pt")).logits[0, -1]


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) for n in ("soft", "hard") for f in FORMS if (n, f) != ("soft", "text")]
)
def test_other_programs_reach_what_the_run_says(here, lm, name, form):
    rows, kl = exported(name, form, "--script"), run_kl(name)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in Path("out").rglob("*") if path.is_file()}
    assert len(modes) == 1  # whoever may read one of them may read all
    assert [row["target_id"] for row in rows] == [f"user/{target['name']}" for target in TARGETS]
    for row in rows:
        assert row["kl"] == pytest.approx(kl[row["target_id"]], abs=1e-6)
        assert row["kl_read_back"] == pytest.approx(row["kl"], abs=1e-4)
        if row["target_id"].removeprefix("user/") in OVER_TOKENS:
            assert kl_of(name, row["target_id"], reached(form, row, lm)) == pytest.approx(row["kl"], abs=1e-4)


@pytest.mark.parametrize(("name", "form"), [("mixture", f) for f in FORMS] + [("soft_mixture", "embeds")])
def test_mixtures_are_exported_with_their_weights(here, lm, name, form):
    rows, kl = exported(name, form, "--script"), run_kl(name)
    told = json.loads(Path("out/mixtures.json").read_text())
    assert [each["target_id"] for each in told] == [f"user/{target['name']}" for target in TARGETS]
    assert any(len(each["prompts"]) == 2 for each in told)
    assert "lit_prompt" not in Path("out/reach.py").read_text(encoding="utf-8")
    for each in told:
        mine = [row for row in rows if row["target_id"] == each["target_id"]]
        weights = [row["weight"] for row in mine]
        assert weights == [prompt["weight"] for prompt in each["prompts"]] == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(1)
        assert each["kl"] == pytest.approx(kl[each["target_id"]], abs=1e-6)
        assert each["kl_read_back"] == pytest.approx(each["kl"], abs=1e-4)
        if each["target_id"].removeprefix("user/") in OVER_TOKENS:
            parts = [w * reached(form, row, lm).double().softmax(-1) for w, row in zip(weights, mine, strict=True)]
            assert kl_of(name, each["target_id"], sum(parts).log()) == pytest.approx(each["kl"], abs=1e-4)
        _, listed, _ = scripted(each["target_id"], each["kl"])
        if each["target_id"] == "user/a/b":
            for (q, _, i, _), own, at in zip(listed, *(x.tolist() for x in sum(parts).topk(20)), strict=True):
                assert (q, i) == (pytest.approx(own, abs=1e-5), at)


def test_an_answer_of_several_tokens_is_read_back_token_by_token(here, lm):
    (row,) = exported("hard", "text", "--targets", "user/answers")
    log_q = []
    for answer in TARGETS[2]["strings"]:
        ids = lm[1](answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = lm[0](input_ids=torch.tensor([[*row["whole_ids"], *ids]])).logits[0].double().log_softmax(-1)
        log_q.append(sum(float(logits[len(row["whole_ids"]) - 1 + k, token]) for k, token in enumerate(ids)))
    p = torch.tensor(list(TARGETS[2]["strings"].values()), dtype=torch.float64)
    assert float((p * (p.log() - torch.tensor(log_q, dtype=torch.float64))).sum()) == pytest.approx(row["kl"], abs=1e-4)


def printed(*words: str) -> list[str]:
    """What the script prints, run in this process."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(sys, "argv", ["out/reach.py", *words])
        runpy.run_path("out/reach.py", run_name="__main__")
    return said.getvalue().splitlines()


def scripted(target_id: str | None, kl: float) -> tuple[str, list[tuple[float, float, int, str]], str]:
    """The target that the script names, the lines that it lists and what it draws; its KL is checked."""
    first, *lines, last = printed(*([] if target_id is None else [target_id]))
    told = re.fullmatch(r"(\S+): KL\(target \|\| LM\) is (\S+) nats, (\S+) when it was exported", first)
    assert (float(told[2]), float(told[3])) == (pytest.approx(kl, abs=1e-4), pytest.approx(kl, abs=1e-6))
    listed = [re.fullmatch(r"(\S+) for (\S+) (\d+) (.+)", line).groups() for line in lines]
    drawn = last.removeprefix("drawn: ")
    assert drawn != last
    return told[1], [(float(q), float(p), int(i), text) for q, p, i, text in listed], drawn


@pytest.mark.parametrize(("name", "form"), [("soft", "peft"), ("soft", "embeds"), ("hard", "text")])
def test_the_script_needs_transformers_alone(here, lm, name, form):
    rows = exported(name, form, "--script", "--targets", "user/a.b", "user/a/b", "user/answers", "user/cells")
    text = Path("out/reach.py").read_text(encoding="utf-8")
    assert "lit_prompt" not in text
    assert len(text.splitlines()) <= 60
    words = [sys.executable, "out/reach.py"]
    alone = subprocess.run(words, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert alone.splitlines()[0] == printed()[0]
    with pytest.raises(SystemExit, match="no target 'user/x'; there are user/a"):
        printed("user/x")
    for target_id, row in zip((None, "user/a/b"), rows, strict=False):
        told, listed, _ = scripted(target_id, row["kl"])
        assert told == row["target_id"]
        probs = reached(form, row, lm).double().softmax(-1)
        for (q, _, i, text), own, at in zip(listed, *(x.tolist() for x in probs.topk(20)), strict=True):
            assert (q, i, text) == (pytest.approx(own, abs=1e-5), at, repr(lm[1].decode(at)))
        asked = TARGETS[1 if target_id is None else 0]["probs"]
        assert all(p == pytest.approx(asked.get(literal_eval(text), 0.0), abs=1e-6) for _, p, _, text in listed)
    wanted = {"user/answers": TARGETS[2]["strings"], "user/cells": {"glad": 0.7, "not": 0.3}}
    for row in rows[2:]:
        _, listed, _ = scripted(row["target_id"], row["kl"])
        assert {text: p for _, p, _, text in listed} == {
            repr(answer): p for answer, p in wanted[row["target_id"]].items()
        }


def test_the_script_draws_whole_answers(here):
    exported("hard", "text", "--script", "--targets", "user/answers")
    text = Path("out/reach.py").read_text(encoding="utf-8")
    # an LM that says the same to everybody
    said = " very sad"
    ids = AutoTokenizer.from_pretrained(EMBEDDED_LLAMA)(said, add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    told = "    return logits.to(torch.float64).softmax(-1)\n"
    assert told in text
    Path("out/reach.py").write_text(
        text.replace(told, f"    return torch.eye(len(logits), dtype=torch.float64)[{ids}[len(begun) % {len(ids)}]]\n")
    )
    assert printed()[-1] == f"drawn: {said!r}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lifted_prompt_survives_half_precision(here, dtype):
    (row,) = exported("lift", "embeds", "--dtype", dtype)
    found = load_file(f"out/{row['file']}")["prompt_embeds"]
    assert found.dtype == getattr(torch, dtype)
    assert row["kl_read_back"] == pytest.approx(row["kl"], abs=0.02)
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_LLAMA, dtype=found.dtype).eval()
    with torch.no_grad():
        kl = kl_of("lift", "user/a.b", model(inputs_embeds=found[None]).logits[0, -1])
    assert kl == pytest.approx(row["kl_read_back"], abs=1e-3)


def test_what_moves_more_than_rounding_is_not_exported(here, monkeypatch):
    whole = exporter.embedded
    monkeypatch.setattr(exporter, "embedded", lambda *told: whole(*told) * 1.5)
    outcome = run("export", "--run", _run("soft"), "--format", "embeds", "--out", "out")
    assert (outcome.code, "Traceback" in outcome.said) == (2, False)
    assert "more than rounding to float32 explains (0.0001 nats); nothing was exported" in outcome.error
    assert not Path("out").exists()
    assert not [*here.glob(".*")]


def test_without_peft_it_is_written_and_said(here, monkeypatch):
    monkeypatch.setattr("lit_prompt.export.adapters.find_spec", lambda name: None)
    outcome = run("export", "--run", _run("soft"), "--format", "peft", "--out", "out")
    assert outcome.code == 0
    assert "not read back: PEFT is not installed" in outcome.said
    assert (Path("out") / "user-a-b" / "adapter_config.json").is_file()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--run", "logs/soft/version_0", "--format", "text", "--out", "out"], "soft prompts, which are no texts"),
        (["--run", "logs/hard/version_0", "--format", "text", "--out", "out", "--dtype", "float16"], "--dtype is of"),
        (["--run", "logs/hard/version_0", "--format", "text", "--out", "logs"], "logs exists; exports are never"),
        (
            ["--run", "logs/hard/version_0", "--format", "text", "--out", "out", "--targets", "user/ab"],
            "no target 'user/ab'; did you mean 'user/a/b'?",
        ),
        (["--run", "logs", "--format", "text", "--out", "out"], "logs is no run's folder"),
        (["--run", "logs/hard/version_0", "--format", "onnx", "--out", "out"], "invalid choice: 'onnx'"),
        (["--run", "logs/hard/version_0", "--format", "text", "--out", "out", "--lm", "nowhere/x/y"], "nowhere/x/y"),
    ],
)
def test_mistakes_are_one_line(here, words, why):
    outcome = run("export", *words)
    assert (outcome.code, "Traceback" in outcome.said) == (2, False)
    assert why in outcome.error
    assert not Path("out").exists()


def test_another_lm_is_refused(here, make_lm):
    outcome = run("export", "--run", _run("hard"), "--format", "text", "--out", "out", "--lm", make_lm("llama"))
    assert (outcome.code, "Traceback" in outcome.said) == (2, False)


def test_a_search_begins_at_an_adapter(here):
    (row,) = exported("soft", "peft", "--targets", "user/a.b")
    length = load_file(f"out/{row['file']}/adapter_model.safetensors")["prompt_embeddings"].shape[0]
    families = "[{class_path: FromFile, init_args: {path: t.jsonl}}]"
    Path("t.jsonl").write_text(json.dumps(TARGETS[1]))
    words = ("fit", "--lm", EMBEDDED_LLAMA, "--lm_options.bos", "never", "--model", "SoftPrompt", "--model.steps", 1)
    init = ("--model.init.kind", "peft", "--model.init.path", f"out/{row['file']}", "--data.families", families)
    outcome = run(*words, *init, "--model.length", length + 1)
    assert (outcome.code, "Traceback" in outcome.said) == (2, False)
    assert f"set model.length to {length}" in outcome.error
    outcome = run(*words, *init, "--model.length", length)
    assert outcome.code == 0, outcome.said
    assert run("test", "--run", "logs/default/version_0").code == 0
    (kl,) = pq.read_table("logs/default/version_0/results.parquet").to_pydict()["kl"]
    assert kl <= row["kl"] + 1e-4
    outcome = run(*words, "--model.init.kind", "peft", "--data.families", families)
    assert "model.init.path must name the adapter's folder" in outcome.error


def test_names_of_files_differ_on_every_file_system():
    ids = ["a/b", "a.b", "A/B", "..", "", "a" * 300, "a" * 299, "x\0y", "ü/ö"]
    names = file_names(ids)
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(name and name[0] != "." and "/" not in name and "\0" not in name and len(name) < 130 for name in names)
