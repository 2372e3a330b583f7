"""Prompts found by a server's answers alone: the same as on the LM at hand, and nothing asked twice."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.served.connection import KEY
from tests.conftest import EMBEDDED_LLAMA
from tests.faults.commands import inside, run
from tests.saved import curves, saved
from tests.served.server import Served, serving

# likely after the text, so that short lists hold them
BEFORE = "Once upon a time there was a"
TARGETS = [
    {"name": "even", "probs": {" little": 0.5, " man": 0.5}},
    {"name": "uneven", "probs": {" king": 0.7, " man": 0.3}},
]
RUN = Path("logs/served/version_0")


@pytest.fixture
def folder(tmp_path):
    with inside(tmp_path):
        yield tmp_path


def config(lm, steps=6, targets=TARGETS, **model):
    """Writes a config and its targets; returns its name."""
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in targets))
    settings = {
        "before": BEFORE,
        "length": 24,
        "steps": steps,
        "searcher": {"class_path": "TextSearch", "init_args": {"width": 4}},
    }
    served = {"class_path": "Served", "init_args": lm} if isinstance(lm, dict) else lm
    Path("served.yaml").write_text(
        yaml.safe_dump(
            {
                "lm": served,
                "model": {"class_path": "TextPrompt", "init_args": {**settings, **model}},
                "data": {"families": [{"class_path": "FromFile", "init_args": {"path": "t.jsonl"}}]},
            }
        )
    )
    return "served.yaml"


def fit(lm, *options, **settings):
    outcome = run("fit", "--config", config(lm, **settings), *options)
    assert outcome.code == 0, outcome.said
    return outcome


def evaluated(*options, place=RUN):
    outcome = run("test", "--run", place, *options)
    assert outcome.code == 0, outcome.said
    path = sorted(place.glob("results*.parquet"), key=lambda path: path.stat().st_mtime)[-1]
    return outcome.said, pq.read_table(path).to_pylist()


def texts(place=RUN):
    return [json.loads(line)["text"] for line in (place / "prompts.jsonl").read_text().splitlines()]


def test_a_served_lm_and_the_same_at_hand_give_the_same_search(folder, served):
    fit({"url": served.url, "listed": 2**20})
    fit(str(EMBEDDED_LLAMA))
    here = Path("logs/served/version_1")
    assert texts() == texts(here)
    torch.testing.assert_close(saved(RUN)["kl"], saved(here)["kl"], rtol=0, atol=1e-5)
    torch.testing.assert_close(curves(RUN), curves(here), rtol=0, atol=1e-5)
    _, there = evaluated()
    _, own = evaluated(place=here)
    for a, b in zip(there, own, strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)
        assert a["tv"] == pytest.approx(b["tv"], abs=1e-5)
        assert a["kl_unprompted"] == pytest.approx(b["kl_unprompted"], abs=1e-5)
        assert a["whole_text"] == b["whole_text"] == BEFORE + a["prompt_text"]


def test_its_texts_are_tested_on_the_lm_itself(folder, served):
    fit({"url": served.url})
    _, there = evaluated()
    outcome = run("test", "--run", RUN, "--lm", EMBEDDED_LLAMA)
    assert outcome.code == 0, outcome.said
    (other,) = RUN.glob("on-*/results.parquet")
    for a, b in zip(there, pq.read_table(other).to_pylist(), strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "hosted"])
def test_other_protocols(folder, served, kind):
    served.kind, served.top = kind, 40
    fit({"url": served.url, "listed": 40})
    output, rows = evaluated()
    exact = [row for row in rows if row["kl"] is not None]
    assert exact
    assert all(row["kl"] is None for row in rows if row["kl_at_least"] is not None)
    assert all(row["answer_change"] == 0 for row in exact)
    assert "floor" not in output
    assert "differ from the search's by 0 at most" in output


def test_a_short_list_gives_bounds_that_hold(folder, served):
    served.kind, served.top = "hosted", 5
    rare = [{"name": "rare", "probs": {" kiss": 0.5, " die": 0.5}}]
    fit({"url": served.url}, targets=rare, steps=1)
    output, (row,) = evaluated()
    assert row["kl"] is None
    assert "KL at least" in output
    assert "nan" not in output
    assert "uniform" not in output  # no table of nothing
    assert not list(RUN.glob("*.png"))
    assert "No KL is known" in run("predict", "--run", RUN).said
    outcome = run("report", RUN, "--out", "page")
    assert outcome.code == 0, outcome.said
    page = Path("page/report.html").read_text()
    assert "No KL is known of these runs" in page
    assert f"at least {row['kl_at_least']:.3f}" in page
    assert not list(Path("page/figures").iterdir())
    assert "Best and worst" not in page
    assert not re.search(r"\bnan\b|None", page)
    run("test", "--run", RUN, "--lm", EMBEDDED_LLAMA)
    (other,) = RUN.glob("on-*/results.parquet")
    assert 0 < row["kl_at_least"] <= pq.read_table(other).to_pylist()[0]["kl"]


def test_bounds_stand_beside_results_and_are_none(folder, served):
    served.kind, served.top = "hosted", 40
    rare = {"name": "rare", "probs": {" zebra": 0.5, " xylophone": 0.5}}
    fit({"url": served.url}, targets=[TARGETS[0], rare], steps=2)
    output, (known, bound) = evaluated()
    assert known["kl"] is not None
    assert bound["kl"] is None
    assert "Of 1 of 2 targets no KL is known" in output
    assert run("predict", "--run", RUN).code == 0
    outcome = run("report", RUN, "--out", "page")
    assert outcome.code == 0, outcome.said
    page = Path("page/report.html").read_text()
    assert f"at least {bound['kl_at_least']:.3f}" in page
    assert "No results: bounds below" in page
    assert "1 user" in page  # targets of the run
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


TASK = [
    {
        "name": "she",
        "task": "who",
        "context": {"before": "She was a", "after": ""},
        "probs": {" little": 0.6, " man": 0.4},
    },
    {"name": "he", "task": "who", "context": {"before": "He was a"}, "probs": {" little": 0.2, " man": 0.8}},
    {"name": "old", "probs": {" king": 0.7, " man": 0.3}},
]


def test_a_task_has_one_text_for_all_of_its_questions(folder, served):
    fit({"url": served.url, "listed": 2**20}, targets=TASK, steps=3)
    fit(str(EMBEDDED_LLAMA), targets=TASK, steps=3)
    here = Path("logs/served/version_1")
    assert texts() == texts(here)
    assert len(texts()) == 2
    assert len({str(prompt) for prompt in served.prompts}) == len(served.prompts)
    _, rows = evaluated()
    evaluated(place=here)
    assert rows[0]["prompt_text"] == rows[1]["prompt_text"] != rows[2]["prompt_text"]
    found, own = (pq.read_table(place / "tasks.parquet").to_pylist() for place in (RUN, here))
    for a, b in zip(found, own, strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)
    assert found[0]["kl"] == pytest.approx((rows[0]["kl"] + rows[1]["kl"]) / 2)


def test_a_task_of_which_a_part_is_told_is_no_result(folder, served):
    served.kind, served.top = "hosted", 40
    targets = [TASK[0], TASK[1] | {"probs": {" zebra": 1.0}}, TARGETS[0]]
    fit({"url": served.url}, targets=targets, steps=2)
    output, rows = evaluated()
    assert [row["kl"] is None for row in rows] == [False, True, False]
    who, old = pq.read_table(RUN / "tasks.parquet").to_pylist()
    assert who["kl"] is None
    assert old["kl"] == pytest.approx(rows[2]["kl"])
    assert run("report", RUN, "--out", "page").code == 0
    assert "user/she" not in Path("page/report.html").read_text()
    assert "nan" not in output


def test_a_chat(folder, chat_server):
    chat = [{"role": "system", "content": "Be {prompt}."}, {"role": "user", "content": "Yes or no?"}]
    targets = [{"name": "chat", "chat": chat, "strings": {"a": 0.5, "b": 0.5}}]
    fit({"url": chat_server.url, "listed": 20}, targets=targets, steps=2, before="")
    _, (row,) = evaluated()
    assert row["kl"] is not None or row["kl_at_least"] is not None
    assert json.loads(row["whole_text"])[0]["content"] == f"Be {row['prompt_text']}."


@pytest.fixture
def chat_server(chat_lm):
    found = FrozenLM.load(str(chat_lm), LMOptions(), torch.device("cpu"))
    with serving(Served(found, Vocabulary.load(str(chat_lm), LMOptions()), kind="chat", top=20)) as chat:
        yield chat


CHATS = [
    {
        "name": "who",
        "chat": [{"role": "system", "content": "{prompt}"}, {"role": "user", "content": "Who was it?"}],
        "strings": {" a very old man": 0.5, " the king": 0.5},
    },
    {
        "name": "begun",
        "chat": [{"role": "user", "content": "Tell {prompt}."}, {"role": "assistant", "content": "Once there was a"}],
        "strings": {" little": 0.5, " man": 0.5},
    },
    TARGETS[0],
]


def test_a_chat_behind_llama_cpp_is_written_by_its_template(folder, chat_server, chat_lm):
    chat_server.kind = "llama.cpp"
    fit({"url": chat_server.url, "listed": 2**20}, targets=CHATS, steps=2)
    fit(str(chat_lm), targets=CHATS, steps=2)
    here = Path("logs/served/version_1")
    assert texts() == texts(here)
    _, there = evaluated()
    _, own = evaluated(place=here)
    for a, b in zip(there, own, strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)
        assert b["whole_text"].endswith(a["whole_text"])  # what stands in front of all texts is the server's
    asked = len(chat_server.asked)
    _, offline = evaluated("--offline", "true")
    assert len(chat_server.asked) == asked
    assert [row["kl"] for row in offline] == [row["kl"] for row in there]


def test_kind_overrules_what_is_found_out(folder, chat_server):
    chat = [{"role": "user", "content": "{prompt}"}]
    chats = [{"name": "chat", "chat": chat, "strings": {"a": 1.0}}]
    outcome = run("fit", "--config", config({"url": chat_server.url, "kind": "openai"}, targets=chats, before=""))
    assert outcome.code == 2
    assert "has no /v1/completions" in outcome.said
    outcome = run("fit", "--config", config({"url": chat_server.url, "kind": "chat"}))
    assert outcome.code == 2
    assert "user/even is no chat, and the server takes no other" in outcome.said


def test_one_of_several_lms_is_named(folder, served):
    served.kind, served.top, served.others = "hosted", 40, ["a", "b"]
    outcome = run("fit", "--config", config(served.url))
    assert (outcome.code, served.prompts) == (2, [])
    assert "has several LMs (a, b, stories); name one as model" in outcome.said
    outcome = run("fit", "--config", config({"url": served.url, "model": "c"}))
    assert (outcome.code, served.prompts) == (2, [])
    assert "has no c; it has a, b, stories" in outcome.said
    fit({"url": served.url, "model": "stories"}, steps=1)
    evaluated()
    words = ("score", "--server", served.url, "--text", BEFORE, "--target", " little=1")
    assert run(*words).code == 2
    assert run(*words, "--model", "stories").code == 0


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_answers_of_several_tokens_and_cells(folder, served, kind):
    served.kind, served.top = kind, 40
    targets = [
        {"name": "long", "strings": {" little girl": 0.5, " man": 0.5}},
        {"name": "cells", "probs": {"boy": 0.4, "girl": 0.6}, "cells": {"boy": [" boy", " man"], "girl": [" girl"]}},
    ]
    fit({"url": served.url, "listed": 2**20}, targets=targets, steps=2)
    _, there = evaluated()
    run("test", "--run", RUN, "--lm", EMBEDDED_LLAMA)
    (other,) = RUN.glob("on-*/results.parquet")
    for a, b in zip(there, pq.read_table(other).to_pylist(), strict=True):
        assert a["kl"] == pytest.approx(b["kl"], abs=1e-5)


def test_a_server_that_asks_for_patience_gets_it(folder, served, monkeypatch):
    slept = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=slept.append, time=time.time))
    served.retry_after, served.faults = "7", [429, 429]
    fit({"url": served.url}, steps=1)
    assert slept == [7, 7]
    slept.clear()
    served.faults = [503] * 5
    fit({"url": served.url}, steps=1)
    assert slept == sorted(slept)  # growing
    assert slept[-1] == 2 * slept[-2] > 0


def test_nothing_is_asked_twice_and_a_test_can_do_without_the_server(folder, served):
    fit({"url": served.url})
    asked = [str(prompt) for prompt in served.prompts if prompt != served.prompts[0]]
    assert len(asked) == len(set(asked))
    _, online = evaluated()
    count = len(served.asked)
    _, offline = evaluated("--offline", "true")
    assert len(served.asked) == count
    assert [row["kl"] for row in online] == [row["kl"] for row in offline]
    assert all(row["answer_change"] is None for row in offline)


def test_a_killed_search_asks_for_nothing_that_is_kept_and_ends_the_same(folder, served, monkeypatch):
    fit({"url": served.url}, steps=8)
    whole, every = saved(RUN), {str(prompt) for prompt in served.prompts}
    served.prompts.clear()
    served.seconds = 0.02
    answers, answer = threading.Semaphore(100), served.answer

    def held(path, body):
        if path == "/completion":
            answers.acquire()  # later ones never come, however late the search is killed
        return answer(path, body)

    monkeypatch.setattr(served, "answer", held)
    name = config({"url": served.url}, steps=8)
    again = Path("logs/served/version_1")
    with subprocess.Popen([sys.executable, "-m", "lit_prompt", "fit", "--config", name],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        while len(served.prompts) < 100 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.2)  # what was under way
    with sqlite3.connect(next((again / "answers").glob("*.sqlite"))) as file:
        (kept,) = file.execute("SELECT COUNT(*) FROM answers WHERE read > 0").fetchone()
    assert 90 < kept <= 100
    before = len(served.prompts)
    monkeypatch.undo()
    served.seconds = 0.0
    outcome = run("fit", "--run", again)
    assert outcome.code == 0, outcome.said
    probe, *later = map(str, served.prompts[before:])
    assert len(later) == len(set(later)) == len(every - {probe}) - kept
    for key, value in saved(again).items():
        if key != "reason":
            torch.testing.assert_close(value, whole[key], rtol=0, atol=0)


def test_faults_change_nothing(folder, served):
    fit({"url": served.url}, steps=3)
    served.fault = 0.2
    fit({"url": served.url}, steps=3)
    torch.testing.assert_close(saved(RUN)["prompts"], saved(Path("logs/served/version_1"))["prompts"])


def test_another_lm_by_the_same_name_is_refused(folder, served, tiny_lm):
    fit({"url": served.url})
    other = FrozenLM.load(str(tiny_lm), LMOptions(), torch.device("cpu"))
    served.lm, served.vocabulary = other, Vocabulary.load(str(tiny_lm), LMOptions())
    outcome = run("test", "--run", RUN)
    assert outcome.code == 2
    assert "serves another LM by the name of stories.gguf" in outcome.said
    served.name = "tales"
    outcome = run("test", "--run", RUN)
    assert outcome.code == 2
    assert "serves tales.gguf (llama.cpp) now" in outcome.said


def test_the_best_of_several_searches_is_kept(folder, served):
    fit({"url": served.url}, steps=3)
    fit({"url": served.url}, steps=3, restarts=3)
    place = Path("logs/served/version_1")
    alone, found = saved(RUN), saved(place)
    torch.testing.assert_close(found["kl"][:, :1], alone["kl"], rtol=0, atol=0)
    assert len({tuple(row) for row in found["prompts"][0].tolist()}) == 3
    best = found["kl"].argmin(1)
    assert best.tolist() != [0, 0]  # else this shows nothing
    told = found["prompts"][torch.arange(2), best].tolist()
    assert texts(place) == [bytes(i for i in row if i).decode() for row in told]
    _, rows = evaluated(place=place)
    for row, kl in zip(rows, found["kl"], strict=True):
        assert row["restarts"] == 3
        assert row["kl"] == pytest.approx(float(kl.min()), abs=1e-5)


def read_tokens(place=RUN):
    """Tokens that the server has read for all that is kept."""
    with sqlite3.connect(next((place / "answers").glob("*.sqlite"))) as file:
        return file.execute("SELECT SUM(read) FROM answers").fetchone()[0]


@pytest.mark.parametrize(
    "budget", [{"max_texts": 90}, {"max_tokens": 1200}, {"max_cost": 2.4, "price": 2000.0}, {"max_seconds": 3.2}]
)
def test_a_budget_ends_a_search(folder, served, budget):
    served.seconds = 0.1 if "max_seconds" in budget else 0.0
    outcome = fit({"url": served.url, **budget}, steps=30)
    assert "is used up; what was found until then counts" in outcome.said
    asked = len(served.prompts)
    assert 64 < asked < 150
    if "max_texts" in budget:
        assert asked <= 91  # the probe, too
    if "max_tokens" in budget or "max_cost" in budget:
        assert 800 < read_tokens() <= 1200
    served.seconds = 0.0
    assert run("fit", "--run", RUN).code == 0  # the search has ended
    assert len(served.prompts) <= asked + 1
    _, rows = evaluated()
    assert {row["stop_reason"] for row in rows} == {"budget"}
    assert all(row["kl"] is not None for row in rows)


def test_a_budget_that_suffices_for_nothing_is_named(folder, served):
    outcome = run("fit", "--config", config({"url": served.url, "max_texts": 5}))
    assert outcome.code == 2
    assert "does not suffice for the first texts of a search" in outcome.said.splitlines()[-1]
    assert len(served.prompts) == 1  # the probe


def test_several_servers_share_the_work_and_one_may_end(folder, lm, vocabulary, served):
    with serving(Served(lm, vocabulary)) as other:
        fit({"url": [served.url, other.url]}, steps=2)
        assert min(len(served.prompts), len(other.prompts)) > 10


def test_a_dry_run_tells_the_cost_and_keeps_nothing(folder, served):
    outcome = fit({"url": served.url, "price": 2.0}, "--dry_run", "true")
    assert "texts     112 at most (6 steps), 1 questions each" in outcome.said
    assert "money" in outcome.said
    assert not Path("logs").exists()


def test_the_key_is_never_written(folder, served, monkeypatch):
    served.key = "sesame-opens"
    monkeypatch.setenv(KEY, "sesame-opens")
    fit({"url": served.url}, steps=1)
    evaluated()
    kept = [path for path in Path("logs").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"sesame-opens" in path.read_bytes()]
    monkeypatch.setenv(KEY, "wrong")
    assert "does not accept the key" in run("test", "--run", RUN).said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "SoftPrompt"], "SoftPrompt needs an LM at hand"),
        (["--model", "HardPrompt"], "HardPrompt needs an LM at hand"),
        (['--data.families=[{"class_path": "EntropyMatched"}]'], "EntropyMatched needs the LM's vocabulary"),
        (["--draws", "10"], "--draws needs an LM at hand"),
        (["--sampling.top_k", "10"], "--sampling needs an LM at hand"),
        (["--asking", "Say {odds}"], "--asking needs an LM at hand"),
    ],
)
def test_what_needs_an_lm_at_hand_says_so(folder, served, options, said):
    outcome = run("fit", "--config", config(served.url), *options)
    assert outcome.code == 2
    assert said in outcome.said
    assert len(outcome.said.strip().splitlines()) < 12
