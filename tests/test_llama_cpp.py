"""LMs as they are read here from GGUF files, beside llama.cpp on the same files: slow, and only where asked for.

make smollm2 gemma3
python -m venv /tmp/llama_cpp && /tmp/llama_cpp/bin/pip install xllamacpp
LIT_PROMPT_LLAMA_CPP=/tmp/llama_cpp/bin/python pytest -n 0 -s tests/test_llama_cpp.py

llama.cpp multiplies quantised weights with activations that it rounds to 8 bits: that is all that may differ, as the
same weights show that are written as float32.
"""

import json
import os
import runpy
from pathlib import Path

import pytest
import torch
import yaml

from lit_prompt.data.families import FromFile, Given
from lit_prompt.functional import kl_divergence
from lit_prompt.lm import FrozenLM, LMOptions, Vocabulary
from lit_prompt.records.results import RESULTS
from lit_prompt.served.questions import served_kl, text_question
from lit_prompt.served.servers import connect
from tests.conftest import REPOSITORY
from tests.faults.commands import inside, run
from tests.llama_cpp import LlamaCpp
from tests.test_smollm2 import BEFORE, DICE

PYTHON = os.environ.get("LIT_PROMPT_LLAMA_CPP", "")
LMS = REPOSITORY / "data" / "lms"
FILES = ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m.Q4_K_M.gguf"]
TEXTS = [
    "The capital of France is",
    "Once upon a time, there was a",
    "def fibonacci(n):\n    if n <",
    BEFORE,
    "Ein kleines Mädchen, das hieß",
]
HELDOUT_TOKENS = 192
#: found for SmolLM2 by a search of 40 steps
HARD_PROMPTS = {
    "fair": " four four two five sodas instead three two",
    "loaded": "PLAY({' six six six five six two",
    "even": " four four two fiveaps gives six two",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="set LIT_PROMPT_LLAMA_CPP to a Python that has xllamacpp"),
]


@pytest.fixture(scope="module", params=FILES)
def file(request):
    found = LMS / request.param
    if not found.exists():
        pytest.skip(f"no {found.name}; run make smollm2 gemma3")
    return found


@pytest.fixture(scope="module")
def both(file):
    """The LM and vocabulary as read here, and the server."""
    lm, vocabulary = FrozenLM.load(str(file), LMOptions()), Vocabulary.load(str(file), LMOptions())
    with LlamaCpp.serving(PYTHON, file, lm.vocab_size) as server:
        yield lm, vocabulary, server


@pytest.fixture(scope="module")
def exact(file, both, tmp_path_factory):
    """The server of the same weights as float32."""
    whole = tmp_path_factory.mktemp("f32") / "lm.gguf"
    runpy.run_path(str(REPOSITORY / "benchmarks" / "gguf_f32.py"))["write_f32"](file, whole)
    with LlamaCpp.serving(PYTHON, whole, both[0].vocab_size) as server:
        yield server
    whole.unlink()


@torch.no_grad()
def log_probs(lm, ids):
    return lm.next_token_logits(lm.embed(torch.tensor([ids])))[0].double().log_softmax(-1)


def test_texts_have_the_same_tokens(both):
    _, vocabulary, server = both
    for text in (*TEXTS, " said\n\nthe  king", "déjà vu 中"):
        assert vocabulary.encode_start(text) == server.tokens(text)


def test_next_tokens_have_the_same_probabilities(both):
    lm, vocabulary, server = both
    for text in TEXTS:
        ids = vocabulary.encode_start(text)
        here, there = log_probs(lm, ids), server.log_probs(ids)
        assert there.exp().sum() == pytest.approx(1, abs=1e-3)  # it adds in float32
        kl = float(kl_divergence(here, there))
        top = int(here.argmax())
        print(f"{text!r}: KL {kl:.4f}; {vocabulary.text(top)!r} {there[top]:.4f} there, {here[top]:.4f} here")
        assert kl < 0.05
        assert abs(float(there[top] - here[top])) < 0.1


def test_nothing_else_than_rounding_of_activations_differs(both, exact):
    lm, vocabulary, server = both
    for text in (*TEXTS, *(BEFORE + prompt for prompt in HARD_PROMPTS.values())):
        ids = vocabulary.encode_start(text)
        here = log_probs(lm, ids)
        rounded, plain = (float(kl_divergence(here, one.log_probs(ids))) for one in (server, exact))
        print(f"{text!r}: KL to here {rounded:.6f} as it is, {plain:.6f} as float32")
        assert plain < 2e-5
        assert plain < rounded


def test_a_text_has_the_same_loss(both):
    lm, vocabulary, server = both
    text = (LMS / "heldout.txt").read_text(encoding="utf-8")[:2000]
    ids = vocabulary.encode_start(text)[:HELDOUT_TOKENS]
    with torch.no_grad():
        states = lm.features(lm.embed(torch.tensor([ids])), every=True)[0]
        log_q = lm.logits(states).double().log_softmax(-1)[:-1]
    here = -log_q.gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    there = torch.tensor(server.nats(ids), dtype=torch.float64)
    print(f"{len(here)} tokens of heldout.txt: {there.mean():.4f} nats a token there, {here.mean():.4f} here")
    assert float(here.mean()) == pytest.approx(float(there.mean()), abs=0.05)


@pytest.mark.parametrize(("die", "prompt"), HARD_PROMPTS.items())
def test_hard_prompts_have_the_same_kl(both, die, prompt):
    lm, vocabulary, server = both
    ids = vocabulary.encode_start(BEFORE + prompt)
    made = FromFile(DICE, name="die").targets(vocabulary)
    (target,) = [target for target in made if target.target_id == f"die/{die}"]
    log_p = target.dense(lm.vocab_size).double()
    here, there = (float(kl_divergence(log_p, log_q)) for log_q in (log_probs(lm, ids), server.log_probs(ids)))
    print(f"{die} die after {prompt!r}: KL {there:.4f} there, {here:.4f} here")
    assert here == pytest.approx(there, abs=0.05, rel=0.1)


def test_texts_that_are_found_behind_the_server_are_as_close_here(both, exact, tmp_path):
    with inside(tmp_path):
        served = {"class_path": "Served", "init_args": {"url": exact.address}}
        model = {"class_path": "TextPrompt", "init_args": {"steps": 20, "before": BEFORE}}
        families = [{"class_path": "FromFile", "init_args": {"path": str(DICE)}}]
        Path("die.yaml").write_text(yaml.safe_dump({"lm": served, "model": model, "data": {"families": families}}))
        assert run("fit", "--config", "die.yaml").code == 0
        folder = Path("logs/die/version_0")
        assert run("test", "--run", folder).code == 0
        for row in RESULTS.read(folder / "results.parquet").to_pylist():
            (target,) = [t for t in FromFile(DICE).targets(both[1]) if t.target_id == row["target_id"]]
            ids = both[1].encode_start(row["whole_text"])
            here = float(kl_divergence(target.dense(both[0].vocab_size).double(), log_probs(both[0], ids)))
            print(f"{row['target_id']} after {row['prompt_text']!r}: KL {row['kl']} there, {here:.4f} here")
            assert row["kl"] is not None
            assert row["kl"] == pytest.approx(here, abs=0.02)


CHAT = {
    "name": "chat",
    "chat": [{"role": "system", "content": "{prompt}"}, {"role": "user", "content": "Tea or coffee?"}],
    "strings": {"Tea": 0.7, "Coffee": 0.3},
}


def test_chats_are_as_close_here_as_behind_the_server(file, both, exact, tmp_path):
    if not getattr(both[1].tokenizer, "chat_template", None):
        pytest.skip("no LM for chats")
    with inside(tmp_path):
        Path("chat.jsonl").write_text(json.dumps(CHAT))
        model = {"class_path": "TextPrompt", "init_args": {"steps": 4}}
        families = [{"class_path": "FromFile", "init_args": {"path": "chat.jsonl"}}]
        settings = {"lm": exact.address, "model": model, "data": {"families": families}}
        Path("chat.yaml").write_text(yaml.safe_dump(settings))
        assert run("fit", "--config", "chat.yaml").code == 0
        folder = Path("logs/chat/version_0")
        for words in ((), ("--lm", file)):
            assert run("test", "--run", folder, *words).code == 0
        (there,) = RESULTS.read(folder / "results.parquet").to_pylist()
        (here,) = RESULTS.read(next(folder.glob("on-*/results.parquet"))).to_pylist()
        print(f"a chat after {there['prompt_text']!r}: KL {there['kl']} there, {here['kl']} here")
        assert there["kl"] == pytest.approx(here["kl"], abs=0.02)


def test_a_text_is_scored_where_it_is_used(both):
    lm, vocabulary, server = both
    words = dict.fromkeys((" one", " two", " three", " four", " five", " six"), 1 / 6)
    for kind in ("llama.cpp", "openai"):
        asked = connect(server.address, kind)
        assert asked.batch == 1
        found = served_kl(asked, text_question(asked, BEFORE, words))
        (target,) = Given(words).targets(vocabulary)
        log_p = target.dense(lm.vocab_size).double()
        here = float(kl_divergence(log_p, log_probs(lm, vocabulary.encode_start(BEFORE))))
        print(f"{kind}: KL {'' if found.exact else 'at least '}{found.kl:.4f} there, {here:.4f} here")
        assert found.exact
        assert found.kl == pytest.approx(here, abs=0.05, rel=0.1)
