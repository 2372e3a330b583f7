"""Prompts scored behind servers: exact where all is told, else a bound below, or one line."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from scipy.optimize import minimize

from lit_prompt.functional.listed_kl import largest_unlisted
from lit_prompt.lm import LMOptions, Vocabulary
from lit_prompt.lm.prompt_adapter import write_adapter
from lit_prompt.served.connection import Connection
from lit_prompt.served.desk import Desk
from lit_prompt.served.lists import read_lists
from lit_prompt.served.questions import served_kl, text_question
from lit_prompt.served.servers import connect
from tests.conftest import EMBEDDED_LLAMA
from tests.faults.commands import inside, run
from tests.served.server import Served, drawn_after, serving

TEXT = "Once upon a time there was a"
COMMON = {" little": 0.5, " big": 0.5}  # likely after that text
TARGETS = [
    {"name": "words", "context": {"before": "The king"}, "probs": {" a": 0.5, " the": 0.5}},
    {"name": "answers", "context": {"after": " He was"}, "strings": {" very glad": 0.6, " sad": 0.4}},
]
RUN = Path("logs/hard/version_0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a tested run of hard prompts and one of soft prompts."""
    folder = tmp_path_factory.mktemp("runs")
    with inside(folder):
        Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TARGETS))
        families = [{"class_path": "FromFile", "init_args": {"path": "t.jsonl"}}]
        for name, kind in (("hard", "HardPrompt"), ("soft", "SoftPrompt")):
            model = {"class_path": kind, "init_args": {"length": 3, "steps": 2}}
            settings = {"lm": str(EMBEDDED_LLAMA), "model": model, "data": {"families": families}}
            Path(f"{name}.yaml").write_text(yaml.safe_dump(settings))
            for words in (("fit", "--config", f"{name}.yaml"), ("test", "--run", f"logs/{name}/version_0")):
                outcome = run(*words)
                assert outcome.code == 0, outcome.said
    return folder


def at_hand(lm, vocabulary, text, probs):
    """The KL over answers by plain products, in float64."""
    start, total = vocabulary.encode_start(text), 0.0
    for answer, p in probs.items():
        ids = vocabulary.encode_after(answer)
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([[*start, *ids]])).logits[0].double().log_softmax(-1)
        log_q = sum(float(logits[len(start) - 1 + k, token]) for k, token in enumerate(ids))
        total += p * (math.log(p) - log_q)
    return total


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm", "sglang", "hosted"])
def test_a_text_has_the_kl_that_it_has_at_hand(lm, vocabulary, served, kind):
    served.kind, served.top = kind, 20
    server = connect(served.url)
    assert server.kind == ("llama.cpp" if kind == "llama.cpp" else "openai")
    found = served_kl(server, text_question(server, TEXT, COMMON))
    assert found.exact
    assert found.kl == pytest.approx(at_hand(lm, vocabulary, TEXT, COMMON), abs=1e-5)


@pytest.mark.parametrize("page", [200, 400])
def test_a_server_that_answers_unknown_paths_with_a_page_is_found_out(served, page):
    served.kind, served.page = "vllm", page
    assert connect(served.url).kind == "openai"


def test_llama_cpp_is_asked_for_one_prompt_at_a_time_by_any_protocol(served):
    served.kind = "llama.cpp"  # which tells the tokens that it has read of one
    assert connect(served.url, "openai").batch == connect(served.url).batch == 1
    served.kind = "vllm"
    assert connect(served.url).batch > 1


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_answers_of_several_tokens_are_asked_for_token_by_token(lm, vocabulary, served, kind):
    probs = {" little girl": 0.7, " very old man": 0.2, " dog": 0.1}
    served.kind, served.top = kind, 20
    server = connect(served.url)
    found = served_kl(server, text_question(server, TEXT, probs))
    assert found.exact
    assert found.kl == pytest.approx(at_hand(lm, vocabulary, TEXT, probs), abs=1e-5)


@pytest.mark.parametrize("top", [1, 2, 5])
@pytest.mark.parametrize(
    "probs", [{" little": 0.3, " zebra": 0.7}, {" zebra": 0.9, " xylophone": 0.1}, {" old king": 1.0}]
)
def test_what_is_not_listed_makes_a_bound_below(lm, vocabulary, served, top, probs):
    served.kind, served.top = "hosted", top
    server = connect(served.url)
    found = served_kl(server, text_question(server, TEXT, probs))
    true = at_hand(lm, vocabulary, TEXT, probs)
    assert not found.exact
    assert 0.0 < found.kl <= true
    served.kind = "vllm"  # which scores given tokens
    server = connect(served.url)
    found = served_kl(server, text_question(server, TEXT, probs))
    assert found.exact
    assert found.kl == pytest.approx(true, abs=1e-5)


def test_an_echo_tells_answers_of_one_token_alone(lm, vocabulary, served):
    served.kind = "sglang"
    server = connect(served.url)
    for probs, exact in (({" kiss": 0.9, " die": 0.1}, True), ({" kiss": 0.5, " very old": 0.5}, False)):
        found, true = served_kl(server, text_question(server, TEXT, probs)), at_hand(lm, vocabulary, TEXT, probs)
        assert found.exact == exact
        assert found.kl == pytest.approx(true, abs=1e-5) if exact else 0 < found.kl < true


@pytest.mark.parametrize("top", [1, 5])
def test_a_token_that_was_drawn_bounds_nothing(lm, vocabulary, served, top):
    served.kind, served.top = "hosted", top
    server, rare = connect(served.url), 0
    for prompt in (TEXT, "The king", "The king was", "One day a man", "She went to the", "In the old house", "He said"):
        order = served.log_probs(ids := vocabulary.encode_start(prompt)).argsort(descending=True).tolist()
        rare += drawn_after(order, ids) in order[top + 1 :]
        next_one = vocabulary.text(order[top])  # the likeliest that is not listed
        found = served_kl(server, text_question(server, prompt, {next_one: 1.0}))
        assert found.kl <= at_hand(lm, vocabulary, prompt, {next_one: 1.0}) + 1e-9
        assert len(server.after(prompt).entries) == top
    assert rare > 3  # else this shows nothing


def test_a_token_that_a_chat_has_drawn_bounds_nothing(lm, chat_lm):
    vocabulary = Vocabulary.load(str(chat_lm), LMOptions())
    rare = 0
    with serving(Served(lm, vocabulary, "chat", top=4)) as served:
        server = connect(served.url, chats=True)
        for text in ("a", "b", "c", "the king", "a girl", "Who?", "Was it so?"):
            listed = server.after([{"role": "user", "content": text}])
            chat = [{"role": "user", "content": text}]
            whole = vocabulary.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            order = served.log_probs(vocabulary.encode(whole)).sort(descending=True).values
            told = {entry.log_prob for entry in listed.entries}
            missing = next(float(value) for value in order if float(value) not in told)
            rare += len(told & set(order[:4].tolist())) < 4
            assert missing <= listed.last
            assert listed.rest == pytest.approx(1 - sum(map(math.exp, told)))
    assert rare > 3


class Lists:
    """A server that tells a list alone."""

    name = "lists"

    def __init__(self, logprobs):
        (self._listed,) = read_lists(Connection("127.0.0.1:1"), {"choices": [{"logprobs": logprobs}]}, 5)

    def tokens(self, text, start):
        return None

    def after(self, prompt):
        return self._listed

    def log_prob(self, prompt, token):
        return None

    def least_kl(self, answer):
        """The bound of one answer."""
        return served_kl(self, text_question(self, "x", {answer: 1.0})).kl


PART = {"token": "\\xc3", "bytes": [0x20, 0xC3], "logprob": math.log(0.6)}


@pytest.mark.parametrize(
    ("logprobs", "answer"),
    [
        ({"top_logprobs": [{"\ufffd": math.log(0.6), " a": math.log(0.1)}]}, "é"),
        ({"top_logprobs": [{"<0xC3>": math.log(0.6), " a": math.log(0.1)}]}, "é"),
        ({"top_logprobs": [{"bytes: \\xc3": math.log(0.6), " a": math.log(0.1)}]}, " é"),
        ({"content": [{"top_logprobs": [PART, {"token": " a", "logprob": math.log(0.1)}]}]}, " é"),
    ],
)
def test_part_of_a_character_may_begin_an_answer(logprobs, answer):
    server = Lists(logprobs)
    assert 0 < server.least_kl(answer) <= -math.log(0.6)
    assert server.least_kl(" a") == pytest.approx(-math.log(0.1))  # listed
    if not next(iter(server.after("x").entries)).text.startswith("\ufffd"):
        assert server.least_kl("b") > -math.log(0.6)  # which does not begin so


def test_the_bound_is_the_least_that_any_distribution_reaches():
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 5):
        for least, rest in ((0.3, 0.2), (0.05, 0.9), (0.1, 0.25), (1.0, 1.0)):
            p = torch.rand(size, generator=generator, dtype=torch.float64)
            p /= p.sum() * 1.3
            log_q = largest_unlisted(p, least, rest)
            q = log_q.exp()
            assert float(q.max()) <= least + 1e-12
            assert float(q.sum()) <= rest + 1e-12
            numbers = p.numpy()
            best = minimize(
                lambda x, p=numbers: -float((p * np.log(np.maximum(x, 1e-300))).sum()),
                [min(least, rest / size) / 2] * size, bounds=[(1e-12, least)] * size,
                constraints={"type": "ineq", "fun": lambda x, rest=rest: rest - x.sum()},
            )  # fmt: skip
            assert -float((p * log_q).sum()) == pytest.approx(best.fun, abs=1e-5)


@pytest.mark.parametrize("rare", [1e-18, 1e-20, 1e-300])
def test_an_answer_that_hardly_counts_has_a_bound(rare):
    p = torch.tensor([0.3, 0.2, 0.1, rare], dtype=torch.float64)
    for least, rest in ((0.001, 0.5), (0.05, 0.1), (0.2, 0.5)):
        log_q = largest_unlisted(p, least, rest)
        assert log_q.isfinite().all()
        assert float(log_q.max()) <= math.log(least) + 1e-9
        assert float(log_q.exp().sum()) <= rest + 1e-12


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm", "hosted"])
def test_a_run_is_scored_beside_its_own_kls(runs, served, kind):
    served.kind, served.top = kind, 20
    with inside(runs):
        outcome = run("score", "--server", served.url, "--run", RUN)
        assert outcome.code == 0, outcome.said
        here = pq.read_table(RUN / "results.parquet").to_pydict()["kl_text"]
    rows = [line.split() for line in outcome.said.splitlines() if line.strip().startswith("user/")]
    assert [row[0] for row in rows] == ["user/words", "user/answers"]
    for row, kl in zip(rows, here, strict=True):
        assert float(row[1]) == pytest.approx(kl, abs=1e-4)
        if kind == "hosted" and "least" in row:
            assert float(row[4]) <= kl + 1e-4
            assert "are bounds below" in outcome.said
        else:
            assert float(row[2]) == pytest.approx(kl, abs=2e-4)


CHAT = [{"role": "system", "content": "{prompt}"}, {"role": "user", "content": "Who was it?"}]


def test_a_chat_is_asked_as_a_chat(lm, chat_lm, workdir):
    vocabulary = Vocabulary.load(str(chat_lm), LMOptions())
    rows = [
        {"name": name, "chat": CHAT, "probs": probs} for name, probs in (("a", {" a": 1.0}), ("b", {" zebra": 1.0}))
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row | {"strings": row.pop("probs")}) + "\n" for row in rows))
    families = [{"class_path": "FromFile", "init_args": {"path": "t.jsonl"}}]
    model = {"class_path": "HardPrompt", "init_args": {"length": 3, "steps": 2}}
    Path("hard.yaml").write_text(yaml.safe_dump({"lm": str(chat_lm), "model": model, "data": {"families": families}}))
    assert run("fit", "--config", "hard.yaml").code == 0
    assert run("test", "--run", RUN).code == 0
    wanted = pq.read_table(RUN / "results.parquet").to_pydict()["kl_text"]
    with serving(Served(lm, vocabulary, "chat", top=20)) as served:
        outcome = run("score", "--server", served.url, "--kind", "chat", "--run", RUN)
        assert outcome.code == 0, outcome.said
        found = [line.split() for line in outcome.said.splitlines() if line.strip().startswith("user/")]
        for words, kl in zip(found, wanted, strict=True):
            if "least" in words:
                assert 0 < float(words[4]) <= kl + 1e-4
            else:
                assert float(words[2]) == pytest.approx(kl, abs=2e-4)
        outcome = run("score", "--server", served.url, "--run", RUN)
        assert (outcome.code, "Traceback" in outcome.said) == (2, False)
        assert "for chats name it with --kind chat" in outcome.error
        assert served.asked.count("/v1/chat/completions") >= 2


def test_a_request_holds_texts_or_token_ids(served, vocabulary):
    served.kind = "vllm"
    server = connect(served.url)
    prompts = [TEXT, vocabulary.encode_start(TEXT), "The king", vocabulary.encode_start("The king")]
    desk = Desk([server], 2)
    found = dict(desk.ask(prompts))
    desk.close()
    assert [found[place].entries for place in range(4)] == [server.after(prompt).entries for prompt in prompts]


def test_a_busy_server_is_asked_again(served):
    server = connect(served.url)
    question = text_question(server, TEXT, COMMON)
    wanted = served_kl(server, question).kl
    served.faults += [429, 503, 0]
    assert served_kl(server, question).kl == wanted
    assert served.faults == []


def ask(url, *words):
    return run("score", "--server", url, "--text", TEXT, "--target", " a=1", *words)


def test_faults_are_one_line(served, monkeypatch, runs):
    def refused(outcome, why):
        assert (outcome.code, "Traceback" in outcome.said) == (2, False), outcome.said
        assert why in outcome.error

    refused(ask("127.0.0.1:9"), "does not answer (connection refused); start it, or mend the address")
    refused(ask("ftp://x"), "ftp://x is no address")
    refused(ask("http://me:secret@127.0.0.1:9"), "leave the key out of the address")
    served.key = "k1"
    refused(ask(served.url), "asks for a key: set LIT_PROMPT_SERVER_KEY")
    monkeypatch.setenv("LIT_PROMPT_SERVER_KEY", "k2")
    refused(ask(served.url), "does not accept the key in LIT_PROMPT_SERVER_KEY")
    monkeypatch.setenv("LIT_PROMPT_SERVER_KEY", "k1")
    assert ask(served.url).code == 0
    served.key = None
    served.kind = "nothing"
    refused(ask(served.url, "--kind", "llama.cpp"), "")
    served.kind, served.shift = "llama.cpp", 7
    with inside(runs):
        refused(run("score", "--server", served.url, "--run", RUN), "serves another LM, or with another tokenizer")
        refused(
            run("score", "--server", served.url, "--run", "logs/soft/version_0"), "soft prompts, which are no texts"
        )
        refused(run("score", "--server", served.url, "--run", RUN, "--targets", "x"), "the run has no result for 'x'")
        refused(run("score", "--run", RUN), "name the server that is asked with --server")
    refused(run("score", "--server", served.url, "--target", " a=1"), "score needs one prompt")
    refused(run("score", "--text", TEXT, "--target", " a=1"), "score needs an LM")
    refused(run("score", "--text", TEXT, "--server", served.url), "score needs --run RUN, or what is wanted")


def test_no_key_is_written(served, runs, monkeypatch):
    served.key = "key-that-is-secret"
    monkeypatch.setenv("LIT_PROMPT_SERVER_KEY", served.key)
    with inside(runs):
        assert run("score", "--server", served.url, "--run", RUN).code == 0
        assert not [p for p in Path().rglob("*") if p.is_file() and served.key.encode() in p.read_bytes()]


def shown_kl(outcome):
    assert outcome.code == 0, outcome.said
    return float(next(line for line in outcome.said.splitlines() if line.startswith("KL")).split()[1])


def test_a_text_and_an_adapter_are_scored_at_hand(lm, vocabulary, tmp_path):
    stated = ("--target", " little=1", "--target", " very old=1")
    wanted = at_hand(lm, vocabulary, TEXT, {" little": 0.5, " very old": 0.5})
    assert shown_kl(run("score", "--lm", EMBEDDED_LLAMA, "--text", TEXT, *stated)) == pytest.approx(wanted, abs=1e-4)
    embeddings = lm.embed(torch.tensor(vocabulary.encode_start(TEXT[:-2])))
    write_adapter(tmp_path / "adapter", embeddings, lm.model.config, str(EMBEDDED_LLAMA), None)
    words = ("score", "--lm", EMBEDDED_LLAMA, "--adapter", tmp_path / "adapter", "--after", TEXT[-2:], *stated)
    assert shown_kl(run(*words)) == pytest.approx(wanted, abs=1e-4)
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    outcome = run(*words)
    assert (outcome.code, "Traceback" in outcome.said) == (2, False)
    assert "only PROMPT_TUNING is a prompt" in outcome.error
