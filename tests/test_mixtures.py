"""Mixtures of prompts, from the settings to the results, against the LM itself and a convex solver."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from scipy.optimize import minimize
from scipy.special import rel_entr

from lit_prompt.lm import FrozenLM, LMOptions
from lit_prompt.models.run_prompts import run_prompts
from lit_prompt.records.predictions import PREDICTIONS
from lit_prompt.records.results import RESULTS
from lit_prompt.records.tasks import TASKS
from tests.saved import curves, saved
from tests.test_tasks import LINES, write

K = 3
KINDS = ("soft", "hard")
MORE = ("--model.components", str(K), "--model.steps", "12")


def mixture_of(cli, folder, lm, kind, number=0, *more):
    cli("fit", "--config", f"{kind}.yaml", "--lm", str(lm), *MORE, *more)
    return folder / "logs" / kind / f"version_{number}"


def mixtures(run):
    """Prompts and weights by task, as they are kept."""
    with safe_open(run / "prompts.safetensors", "pt") as file:
        weights = json.loads(file.metadata()["weights"])
        return {name: (file.get_tensor(name), np.array(weights[name])) for name in file.keys()}  # noqa: SIM118


class Reference:
    """What an LM gives after prompts, by transformers alone, in float64."""

    def __init__(self, lm):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(lm).double().eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(lm)

    def _embed(self, ids):
        return self.model.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def string(self, prompt, context, text):
        """Probability of a string after a prompt in a context."""
        answer, after = self.ids(text), self.ids(context.get("after", ""))
        own = prompt.unsqueeze(0).double() if prompt.is_floating_point() else self._embed(prompt.tolist())
        before = self._embed(self.ids(context.get("before", "")))
        with torch.no_grad():
            whole = torch.cat([before, own, self._embed([*after, *answer])], 1)
            log_q = self.model(inputs_embeds=whole).logits[0, -len(answer) - 1 :].log_softmax(-1)
        return math.exp(sum(float(row[i]) for row, i in zip(log_q, answer, strict=False)))

    def of_line(self, prompt, line):
        """A target's probabilities and those after a prompt."""
        if "probs" in line and "cells" not in line:
            answers = {text: [text] for text in line["probs"]}
        else:
            answers = line.get("cells") or {text: [text] for text in line["strings"]}
        p = np.array(list((line.get("strings") or line["probs"]).values()))
        context = line.get("context", {})
        return p, np.array([sum(self.string(prompt, context, text) for text in of) for of in answers.values()])


def least_kl(p, q):
    """The least KL of a mixture of distributions ``[component, outcome]``, by SLSQP."""
    return minimize(
        lambda w: rel_entr(p, w @ q).sum(), np.full(len(q), 1 / len(q)), bounds=[(0, 1)] * len(q), method="SLSQP",
        jac=lambda w: -(q / (w @ q)) @ p,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 1000},
    ).fun  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_the_lm_itself(cli, workdir, tiny_lm, kind):
    """Tasks of several targets, whole answers and cells of them, with restarts."""
    write(workdir, LINES, kind)
    run = mixture_of(cli, workdir, tiny_lm, kind)
    said = cli("test", "--run", str(run))
    rows = {row["target_id"]: row for row in RESULTS.read(run / "results.parquet").to_pylist()}
    tasks = {row["task"]: row for row in TASKS.read(run / "tasks.parquet").to_pylist()}
    reference, several = Reference(tiny_lm), 0
    for task, (prompts, weights) in mixtures(run).items():
        assert 1 <= len(prompts) == len(weights) <= K
        assert weights.sum() == pytest.approx(1.0)
        lines = [line for line in LINES if f"user/{line.get('task', line['name'])}" == task]
        reached = {line["name"]: [reference.of_line(prompt, line) for prompt in prompts] for line in lines}
        joint_p, joint_q = [], []
        for line in lines:
            row, (p, _) = rows[f"user/{line['name']}"], reached[line["name"]][0]
            q = np.array([own for _, own in reached[line["name"]]])
            assert row["kl"] == pytest.approx(rel_entr(p, weights @ q).sum(), abs=1e-5)
            kept = sorted((float(w) for w in weights if w > 0), reverse=True)
            assert row["weights"] == pytest.approx(kept)
            assert row["components"] == len(kept)
            assert row["excess"] is None
            assert row["kl_floor"] is None or row["kl_floor"] <= row["kl_single"] + 1e-6
            several += len(kept) > 1
            if kind == "hard":
                assert len(row["component_texts"]) == len(kept)
                assert row["kl_text"] == pytest.approx(row["kl"], abs=1e-5)
            if line.get("split") != "test":
                joint_p.append(row["weight"] * p)
                joint_q.append(row["weight"] * q)
        # a task's prompt is drawn once and for all of its targets: they are one distribution over pairs
        p, q = np.concatenate(joint_p), np.concatenate(joint_q, 1)
        reached_kl = rel_entr(p, weights @ q).sum()
        singles = rel_entr(p, q).sum(1)
        assert tasks[task]["kl"] == pytest.approx(reached_kl, abs=1e-5)
        assert tasks[task]["kl_single"] == pytest.approx(singles.min(), abs=1e-5)
        assert reached_kl <= singles.min() + 1e-7
        gap = math.log(((q / (weights @ q)) @ p).max())
        assert tasks[task]["weights_gap"] == pytest.approx(max(gap, 0.0), abs=1e-5)
        assert tasks[task]["weights_gap"] <= 1e-5  # the search has it from the same numbers
        assert reached_kl <= least_kl(p, q) + 1e-5
    assert several
    assert "of one" in said
    assert "holds for single prompts" in said
    predicted = cli("predict", "--run", str(run))
    assert " %" in predicted
    reached = {
        (row["target_id"], row["token"]): row["reached_probability"]
        for row in PREDICTIONS.read(run / "predictions.parquet").to_pylist()
    }
    prompts, weights = mixtures(run)["user/plain"]
    m = weights @ np.array([reference.of_line(prompt, LINES[-1])[1] for prompt in prompts])
    assert [reached["user/plain", text] for text in (" a", " the")] == pytest.approx(m, abs=1e-5)


@pytest.mark.parametrize(("kind", "more"), [("soft", ()), ("hard", ()), ("hard", ("--model.screening", "always"))])
def test_a_mixture_does_not_depend_on_other_targets(cli, workdir, tiny_lm, kind, more):
    write(workdir, LINES, kind)
    among = mixtures(mixture_of(cli, workdir, tiny_lm, kind, 0, *more))
    write(workdir, LINES, kind, "chunk_size: 1")
    small = mixtures(mixture_of(cli, workdir, tiny_lm, kind, 1, *more))
    for name, (prompts, weights) in among.items():
        assert torch.equal(prompts, small[name][0])
        assert np.array_equal(weights, small[name][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_more_never_hurts(cli, workdir, tiny_lm, kind):
    write(workdir, LINES, kind)
    run = mixture_of(cli, workdir, tiny_lm, kind)
    points = curves(run)  # the best KL so far, or that of the mixture, after each step
    assert points.shape[1] == 12
    assert (points.diff(dim=1) <= 1e-5).all()
    ends = points[:, [3, 7, 11]]
    assert (ends[:, 2] < ends[:, 0] - 1e-4).any()
    kept = saved(run)
    assert torch.equal(kept["kl"].min(1).values, points[:, -1])
    assert (kept["counts"] <= K).all()
    assert kept["weights"].sum(2) == pytest.approx(torch.ones(kept["kl"].shape))


@pytest.mark.parametrize("kind", KINDS)
def test_one_component_is_a_search_as_ever(cli, workdir, tiny_lm, kind):
    write(workdir, LINES, kind)
    runs = []
    for number, more in enumerate([(), ("--model.components", "1")]):
        cli("fit", "--config", f"{kind}.yaml", "--lm", str(tiny_lm), *more)
        runs.append(saved(workdir / "logs" / kind / f"version_{number}"))
    assert "weights" not in runs[0]
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())


def test_the_passes_are_for_all_components(cli, workdir, tiny_lm):
    write(workdir, LINES[-1:], "hard")
    run = mixture_of(
        cli, workdir, tiny_lm, "hard", 0, "--model.steps", "300", "--model.max_forward_passes", "1500",
        "--model.restarts", "1",
    )  # fmt: skip
    kept = saved(run)
    assert kept["counts"].max() > 1  # the first has not used up all of them
    assert 1500 <= int(kept["forward_passes"]) < 1800  # a step, and what is read at a round's end, is not cut


def test_the_temperature_that_is_searched_for_is_that_of_the_weights(cli, workdir, tiny_lm):
    write(workdir, LINES[-1:], "soft")
    run = mixture_of(cli, workdir, tiny_lm, "soft", 0, "--model.temperature", "0.7")
    cli("test", "--run", str(run))
    row = RESULTS.read(run / "results.parquet").to_pylist()[0]
    assert row["weights_gap"] <= 1e-5
    assert row["objective_value"] == pytest.approx(float(saved(run)["kl"].min()), abs=1e-5)
    assert row["objective_value"] == pytest.approx(row["sampled_kl"], abs=1e-9)


def test_other_runs_start_from_the_largest_component(cli, workdir, tiny_lm):
    write(workdir, LINES, "hard")
    run = mixture_of(cli, workdir, tiny_lm, "hard", 0, "--model.seed", "1")
    every = mixtures(run)
    _, found = run_prompts(str(run), "setting", FrozenLM.load(str(tiny_lm), LMOptions()), list(every))
    assert any(int(weights.argmax()) for _, weights in every.values())
    for name, (prompts, weights) in every.items():
        assert torch.equal(found[name], prompts[int(weights.argmax())])
    cli("fit", "--config", "hard.yaml", "--lm", str(tiny_lm), "--model.length", "5", "--model.start.shorter_run",
        str(run))  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("hard", ["--model.fluency", "0.1"], "model.fluency is for single prompts"),
        ("hard", ["--model.objective", "JensenShannon"], "mixtures are searched by KL(target || LM), not by JS"),
        ("hard", ["--model.steps", "2"], "model.steps is 2, which are divided over 3 prompts"),
        ("hard", ["--model.components", "0"], "model.components is 0; it must be at least 1"),
        ("soft", ["--model.init.kind", "lift", "--model.lift_tolerance", "0.1"], "model.lift_tolerance is for single"),
    ],
)
def test_what_mixtures_do_not_have_is_refused(cli, workdir, tiny_lm, kind, more, words):
    write(workdir, LINES[-1:], kind)
    said = cli("fit", "--config", f"{kind}.yaml", "--lm", str(tiny_lm), *MORE, *more, code=2)
    assert words in said
    assert "Traceback" not in said


def test_a_finished_run_is_given_no_more_steps(cli, workdir, tiny_lm):
    write(workdir, LINES[-1:], "hard")
    run = mixture_of(cli, workdir, tiny_lm, "hard", 0, "--model.seed", "1")
    said = cli("fit", "--run", str(run), "--model.steps", "24", code=2)
    assert "the 12 steps of this run were divided over 3 components" in said
    said = cli("fit", "--run", str(run), "--model.components", "2", code=2)
    assert "was made with components = 3, this run has 2" in said


def test_on_another_lm_texts_are_drawn_by_the_same_weights(cli, workdir, tiny_lm, make_lm):
    """Tasks of several targets, whole answers and cells of them, against transformers alone."""
    other = make_lm("gpt2")
    write(workdir, LINES, "hard")
    run = mixture_of(cli, workdir, tiny_lm, "hard", 0, "--model.seed", "1")
    cli("test", "--run", str(run))
    said = cli("test", "--run", str(run), "--lm", str(other))
    assert "tested on" in said
    (folder,) = run.glob("on-*")
    rows = {row["target_id"]: row for row in RESULTS.read(folder / "results.parquet").to_pylist()}
    tasks = {row["task"]: row for row in TASKS.read(folder / "tasks.parquet").to_pylist()}
    texts = {}
    for row in map(json.loads, (run / "prompts.jsonl").read_text().splitlines()):
        if row["weight"] > 0:
            texts.setdefault(row["target_id"], []).append((row["weight"], row["text"]))
    assert max(map(len, texts.values())) > 1
    reference = Reference(other)
    for task, drawn in texts.items():
        drawn.sort(key=lambda each: -each[0])
        weights = np.array([weight for weight, _ in drawn])
        lines = [line for line in LINES if f"user/{line.get('task', line['name'])}" == task]
        singles = np.zeros(len(drawn))
        for line in lines:
            context, row = line.get("context", {}), rows[f"user/{line['name']}"]
            alone = line | {"context": {"before": "", "after": ""}}
            pasted = [context.get("before", "") + text + context.get("after", "") for _, text in drawn]
            reached = [reference.of_line(torch.tensor(reference.ids(text)), alone) for text in pasted]
            p, q = reached[0][0], np.array([own for _, own in reached])
            assert row["kl"] == pytest.approx(rel_entr(p, weights @ q).sum(), abs=1e-5)
            assert row["weights"] == pytest.approx(weights)
            assert row["component_texts"] == [text for _, text in drawn]
            assert row["components"] == len(drawn)
            assert row["excess"] is None
            assert row["kl_floor_tokens"] is None
            if line.get("split") != "test":
                singles += row["weight"] * rel_entr(p, q).sum(1)
        assert tasks[task]["kl_single"] == pytest.approx(singles.min(), abs=1e-5)
    cli("predict", "--run", str(run), "--lm", str(other))
    predicted = PREDICTIONS.read(folder / "predictions.parquet").to_pylist()
    assert {row["target_id"] for row in predicted} == set(rows)
    assert all(row["kl"] == rows[row["target_id"]]["kl"] for row in predicted)
    cli("report", str(run), "--out", "report")
