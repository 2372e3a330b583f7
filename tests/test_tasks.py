"""One prompt for several targets, from the file to the results."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from scipy.special import rel_entr

from lit_prompt.records.results import RESULTS
from lit_prompt.records.tasks import TASKS
from tests.saved import saved

WHO = {" a": 0.5, " the": 0.3, " was": 0.2}
LINES = [
    {"name": "q1", "task": "who", "weight": 3, "context": {"after": " said the"}, "probs": WHO},
    {"name": "q2", "task": "who", "context": {"before": "Yes,", "after": " and the"}, "probs": WHO},
    {"name": "q3", "task": "who", "context": {"after": " but the"}, "probs": WHO, "split": "test"},
    {"name": "s", "task": "how", "context": {"after": " He was"},
     "strings": {" very glad": 0.5, " very sad": 0.2, " no": 0.3}},
    {"name": "p", "task": "how", "context": {"after": " He was"}, "probs": {" a": 0.5, " the": 0.5}},
    {"name": "c", "context": {"after": " He was"}, "cells": {"good": [" very glad", " good"], "bad": [" sad"]},
     "probs": {"good": 0.8, "bad": 0.2}},
    {"name": "plain", "probs": {" a": 0.5, " the": 0.5}},
]  # fmt: skip
MODELS = {
    "soft": "{class_path: SoftPrompt, init_args: {length: 2, steps: 12, restarts: 2}}",
    "hard": "{class_path: HardPrompt, init_args: {length: 3, steps: 4, restarts: 2, screening: never, "
    "searcher: {class_path: SharedSearch, init_args: {share: false}}, start: {sampled_texts: 2, random_sequences: 4}}}",
}


def write(folder, lines, kind="soft", extra="chunk_size: 64"):
    (folder / "targets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    families = "[{class_path: FromFile, init_args: {path: targets.jsonl}}]"
    (folder / f"{kind}.yaml").write_text(f"model: {MODELS[kind]}\ndata: {{{extra}, families: {families}}}\n")


def searched(cli, folder, lm, kind, number=0, *more):
    cli("fit", "--config", f"{kind}.yaml", "--lm", str(lm), *more)
    return folder / "logs" / kind / f"version_{number}"


@pytest.fixture
def raw(tiny_lm):
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_lm).double().eval()


@pytest.mark.parametrize("kind", MODELS)
def test_results_are_those_of_the_lm_itself(cli, workdir, tiny_lm, raw, kind):
    """Whole answers by the probabilities of their strings, from the saved prompts, without this project's code."""
    write(workdir, LINES, kind)
    run = searched(cli, workdir, tiny_lm, kind)
    said = cli("test", "--run", str(run))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_lm)
    prompts = load_file(run / "prompts.safetensors")
    rows = {row["target_id"]: row for row in RESULTS.read(run / "results.parquet").to_pylist()}

    def log_q(prompt, before, after, answer=()):
        def embed(ids):
            return raw.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))

        own = prompt.unsqueeze(0).double() if prompt.is_floating_point() else embed(prompt.tolist())
        front = tokenizer(before, add_special_tokens=False)["input_ids"]
        after = tokenizer(after, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            whole = torch.cat([embed(front), own, embed([*after, *answer])], 1)
            return raw(inputs_embeds=whole).logits[0, -len(answer) - 1 :].log_softmax(-1)

    def string(prompt, before, after, text):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return math.exp(sum(float(row[i]) for row, i in zip(log_q(prompt, before, after, ids), ids, strict=False)))

    kls = {}
    for line in LINES:
        name = f"user/{line['name']}"
        prompt = prompts[f"user/{line.get('task', line['name'])}"]
        context = {"before": "", "after": "", **line.get("context", {})}
        if "probs" in line and "cells" not in line:
            answers = {text: [text] for text in line["probs"]}
        else:
            answers = line.get("cells") or {text: [text] for text in line["strings"]}
        p = np.array(list((line.get("strings") or line["probs"]).values()))
        q = [sum(string(prompt, context["before"], context["after"], text) for text in of) for of in answers.values()]
        kls[line["name"]] = rel_entr(p, np.array(q)).sum()
        assert rows[name]["kl"] == pytest.approx(kls[line["name"]], abs=1e-5)
        if rows[name]["kl_floor"] is not None:
            assert 0 <= rows[name]["kl_floor"] <= rows[name]["kl"]
    assert rows["user/c"]["kl_floor"] is None
    assert {name: rows[f"user/{name}"]["weight"] for name in ("q1", "q2", "q3", "plain")} == {
        "q1": 0.75, "q2": 0.25, "q3": 1.0, "plain": 1.0,
    }  # fmt: skip
    tasks = {row["task"]: row for row in TASKS.read(run / "tasks.parquet").to_pylist()}
    assert list(tasks) == ["user/who", "user/how", "user/c", "user/plain"]
    assert tasks["user/who"]["kl"] == pytest.approx(0.75 * kls["q1"] + 0.25 * kls["q2"], abs=1e-5)
    assert tasks["user/who"]["held_out_kl"] == pytest.approx(kls["q3"], abs=1e-5)
    assert tasks["user/who"]["held_out"] == 1
    assert tasks["user/how"]["kl"] == pytest.approx((kls["s"] + kls["p"]) / 2, abs=1e-5)
    assert "held out" in said
    assert ("as text" in said and ", held out " in said) == (kind == "hard")
    if kind == "hard":
        assert all(row["kl_text"] == pytest.approx(row["kl"], abs=1e-5) for row in rows.values())
    predicted = cli("predict", "--run", str(run))
    assert "(all else)" in predicted
    assert "' very glad'" in predicted


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_held_out_changes_nothing(cli, workdir, tiny_lm, kind):
    write(workdir, LINES[:3], kind)
    first = load_file(searched(cli, workdir, tiny_lm, kind) / "prompts.safetensors")["user/who"]
    write(workdir, [*LINES[:2], LINES[2] | {"probs": {" a": 1.0}, "context": {"after": " it is"}}], kind)
    second = load_file(searched(cli, workdir, tiny_lm, kind, 1) / "prompts.safetensors")["user/who"]
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", MODELS)
def test_a_tasks_prompt_does_not_depend_on_the_others(cli, workdir, tiny_lm, kind):
    write(workdir, LINES, kind)
    among = load_file(searched(cli, workdir, tiny_lm, kind) / "prompts.safetensors")
    write(workdir, LINES, kind, "chunk_size: 1")
    small = load_file(searched(cli, workdir, tiny_lm, kind, 1) / "prompts.safetensors")
    assert all(torch.equal(among[name], small[name]) for name in among)
    write(workdir, [LINES[4], LINES[3]], kind)  # another order of the targets, too
    alone = load_file(searched(cli, workdir, tiny_lm, kind, 2) / "prompts.safetensors")
    assert (alone["user/how"] - among["user/how"]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_a_search_of_tasks_goes_on_bit_for_bit(cli, workdir, tiny_lm, kind):
    write(workdir, LINES, kind, "chunk_size: 3")
    whole = load_file(searched(cli, workdir, tiny_lm, kind) / "prompts.safetensors")
    part = searched(cli, workdir, tiny_lm, kind, 1, "--trainer.max_epochs", "1")
    cli("fit", "--run", str(part), "--trainer.max_epochs", "-1")
    newest = sorted(part.glob("prompts*.safetensors"), key=lambda path: path.stat().st_mtime)[-1]
    again = load_file(newest)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_restart_that_is_best_for_the_whole_task_counts(cli, workdir, tiny_lm):
    write(workdir, LINES, "soft")
    run = searched(cli, workdir, tiny_lm, "soft")
    kept = saved(run)
    cli("test", "--run", str(run))
    tasks = {row["task"]: row for row in TASKS.read(run / "tasks.parquet").to_pylist()}
    for number, task in enumerate(tasks):
        assert tasks[task]["kl"] == pytest.approx(float(kept["kl"][number].min()), abs=2e-5)


def test_another_objective_is_refused_for_answers(cli, workdir, tiny_lm):
    write(workdir, LINES, "soft")
    said = cli("fit", "--config", "soft.yaml", "--lm", tiny_lm, "--model.objective", "JensenShannon", code=2)
    assert "user/s: a target over whole answers or cells is searched for by KL(target || LM) alone, not by JS" in said


def test_tasks_whose_targets_are_all_held_out_are_refused(cli, workdir, tiny_lm):
    write(workdir, [LINES[2]], "soft")
    said = cli("fit", "--config", "soft.yaml", "--lm", tiny_lm, code=2)
    assert "user/who: all of it is held out (split: test), so that nothing can be searched for" in said


def test_the_shortest_prompt_is_that_of_a_task(cli, workdir, tiny_lm):
    write(workdir, LINES[:5], "soft")
    said = cli("shortest", "--config", "soft.yaml", "--lm", tiny_lm, "--kl", "0.001", "--lengths", 1, 2)
    assert "0 of 2 targets reach 0.001 nats with length 2" in said
    assert "user/who" in said


def test_the_floors_of_answers_are_solved_and_those_of_cells_are_not(cli, workdir, tiny_lm):
    write(workdir, LINES, "soft")
    said = cli("floor", "--config", "soft.yaml", "--lm", tiny_lm)
    assert "user/c: no floor, as the problem is not convex over cells of several answers" in said
    run = searched(cli, workdir, tiny_lm, "soft")
    cli("test", "--run", run)
    rows = {row["target_id"]: row for row in RESULTS.read(run / "results.parquet").to_pylist()}
    assert rows["user/s"]["kl_floor"] > 0
