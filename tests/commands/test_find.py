"""``lit_prompt find``: one target from the command line, searched and evaluated as by fit and test."""

import json
import math
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lit_prompt.commands.stated_probs import stated_probs
from lit_prompt.data import TargetSet
from lit_prompt.errors import InputError
from lit_prompt.records.prompts import read_prompts
from lit_prompt.search.chunk_search import ChunkSearch

HALF = ("--target", " three=0.5", "--target", " and=0.5")
QUICK = ("--steps", 3, "--length", 2)


@pytest.fixture
def find(cli, tiny_lm):
    """Runs the command on the tiny LM."""

    def run(*options, **expected):
        return cli("find", "--lm", tiny_lm, *options, **expected)

    return run


def result(number=0):
    (row,) = pq.read_table(f"logs/find/version_{number}/results.parquet").to_pylist()
    return row


def table(said):
    """Wanted and reached probabilities of what is printed, by answer."""
    rows = [line.split() for line in said.splitlines() if line.strip().startswith(("'", "all else"))]
    return {" ".join(words[:-2]).strip("'").strip(): (words[-2], words[-1]) for words in rows}


@pytest.mark.parametrize("kind", [(), ("--hard",)])
def test_a_mixture_is_printed_with_its_weights(find, kind):
    said = find(*HALF, "--steps", 6, "--length", 2, "--components", 2, *kind)
    row = result()
    assert 1 <= row["components"] <= 2
    assert f"prompts   {row['components']}, of which one is drawn by its weight" in said
    assert f"of one    {row['kl_single']:.4f} nats" in said
    assert "no single prompt of any kind is below it" in said
    for place, weight in enumerate(row["weights"]):
        line = f"{100 * weight:6.2f} %"
        assert (f"{line}  {json.dumps(row['component_texts'][place])}" if kind else line) in said


def test_what_the_model_has_not_is_refused_wherever_its_class_is_named(find):
    said = find(*HALF, "--components", 2, "--model", "TextPrompt", code=2)
    assert "no key 'components'" in said


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([" heads=0.5", " tails=0.5"], {" heads": 0.5, " tails": 0.5}),
        ([" heads=3", " tails=1"], {" heads": 0.75, " tails": 0.25}),
        ([" heads=75%", " tails=25 %"], {" heads": 0.75, " tails": 0.25}),
        (["a=33%", "b=33%", "c=33%"], {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        (["a=0.3333", "b=0.6666"], {"a": 0.3333 / 0.9999, "b": 0.6666 / 0.9999}),
        (["x=y=1", "z=0"], {"x=y": 1.0, "z": 0.0}),
        (["==1"], {"=": 1.0}),
        ([" =1"], {" ": 1.0}),
        (["a=1e-1", "b=.9"], {"a": 0.1, "b": 0.9}),
    ],
)
def test_what_is_stated(stated, expected):
    found = stated_probs(stated)
    assert found == pytest.approx(expected)
    assert math.fsum(found.values()) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (["heads"], "'heads' is no TEXT=P; give an answer and its share, such as ' heads=0.5'"),
        (["=0.5"], "'=0.5' is no TEXT=P"),
        (["a=0.5", "b=0.4"], "probabilities sum to 0.9, not to 1 (within 0.001)"),
        (["a=0.5", "b=1"], "probabilities sum to 1.5, not to 1"),
        (["a=50%", "b=40%"], "percentages sum to 90, not to 100 (within 2)"),
        (["a=50%", "b=0.5"], "50% is a percentage and 0.5 is none; give all of one kind"),
        (["a=0", "b=0"], "all counts are zero"),
        (["a=0.5", "a=0.5"], "the answer 'a' is listed twice"),
        (["a=-1", "b=2"], "the share '-1' of 'a' is not a number of 0 or more"),
        (["a=half"], "the share 'half' of 'a' is not a number"),
        (["a=nan"], "the share 'nan'"),
        (["a=inf"], "the share 'inf'"),
        (["a="], "the share '' of 'a'"),
    ],
)
def test_a_mistake_says_what_to_do(stated, message):
    with pytest.raises(InputError) as error:
        stated_probs(stated)
    assert str(error.value).startswith(f"--target: {message}")


def test_a_hard_prompt_is_printed_with_what_it_reaches(find, cli):
    said = find(*HALF, *QUICK, "--hard", "--before", "One", "--seed", 4)
    row = result()
    assert json.loads(said.partition("prompt, as JSON:\n")[2].splitlines()[0]) == row["prompt_text"]
    assert f"KL        {row['kl']:.4f} nats" in said
    assert f"floor     {row['kl_floor']:.4f} nats, certified" in said
    assert (row["target_id"], row["context_before"], row["prompt_length"], row["seed"]) == ("given/0", "One", 2, 4)
    # what predict says of the same run
    cli("predict", "--run", "logs/find/version_0")
    predicted = pq.read_table("logs/find/version_0/predictions.parquet").to_pylist()
    reached = {token["token"].strip(): token["reached_probability"] for token in predicted}
    shown = table(said)
    assert {word: shown[word] for word in ("three", "and")} == {
        word: ("0.5000", f"{reached[word]:.4f}") for word in ("three", "and")
    }
    assert float(shown["all else"][1]) == pytest.approx(1 - reached["three"] - reached["and"], abs=2e-4)
    assert max(map(len, said.splitlines())) < 120


def test_a_soft_prompt_is_in_a_file(find):
    said = find(*HALF, "--steps", 5)
    assert "prompt    5 embeddings, in logs/find/version_0/prompts.safetensors" in said
    (prompt,) = read_prompts(Path("logs/find/version_0/prompts.safetensors"))[0].values()
    assert prompt.shape[0] == 5
    assert result()["kl"] < result()["kl_uniform"]


def test_the_run_is_what_fit_and_test_make_of_a_config(find, cli, tiny_lm):
    find(*HALF, *QUICK, "--hard")
    config = {
        "model": {"class_path": "HardPrompt", "init_args": {"length": 2, "steps": 3}},
        "data": {"families": [{"class_path": "Given", "init_args": {"probs": {" three": 0.5, " and": 0.5}}}]},
    }
    Path("same.yaml").write_text(json.dumps(config))
    cli("fit", "--config", "same.yaml", "--lm", tiny_lm)
    cli("test", "--run", "logs/same/version_0")
    (same,) = pq.read_table("logs/same/version_0/results.parquet").to_pylist()
    assert same | {"seconds": None} == result() | {"seconds": None}
    cli("test", "--run", "logs/find/version_0")


def test_answers_of_several_tokens(find):
    said = find("--target", " the king=3", "--target", " fox=1", *QUICK, "--hard", "--logs", "runs")
    shown = table(said)
    assert {name: wanted for name, (wanted, _) in shown.items()} == {
        "the king": "0.7500", "fox": "0.2500", "all else": "0.0000"
    }  # fmt: skip
    assert sum(float(reached) for _, reached in shown.values()) == pytest.approx(1.0, abs=2e-4)
    assert TargetSet(Path("runs/find/version_0/targets")).batch([0]).answers[0].names == [" the king", " fox"]


def test_an_answer_that_begins_another_needs_an_end(find):
    prefix = ("--target", " the=0.5", "--target", " the king=0.5")
    said = find(*prefix, *QUICK, "--hard", code=2)
    assert said.splitlines()[-1].startswith("lit_prompt: error: family given: the answer ' the' begins another one")
    assert not Path("logs/find").exists()
    for end in (".", "true"):
        find(*prefix, *QUICK, "--hard", "--end", end)
    ends = [TargetSet(Path(f"logs/find/version_{i}/targets")).batch([0]).answers[0].end for i in range(2)]
    assert ends == [".", True]


@pytest.mark.parametrize("words", [("1", "2"), ("null", "true"), ("~", "[a]"), ("é", "=")])
def test_answers_and_texts_are_texts_whatever_they_look_like(find, words):
    first, second = words
    targets = ("--target", f"{first}=1", "--target", f"{second}=3")
    find(*targets, *QUICK, "--hard", f"--before={first}", f"--after={second}")
    targets = TargetSet(Path("logs/find/version_0/targets"))
    (target,) = targets.stored()
    assert (target.before, target.after) == (first, second)
    if target.answers is not None:
        assert target.answers.names == [first, second]


def test_a_config_says_how_to_search(find):
    config = {
        "model": {
            "class_path": "HardPrompt",
            "init_args": {"length": 3, "steps": 2, "searcher": {"class_path": "RandomSearch"}},
        },
        "data": {"load": "nowhere", "families": [{"class_path": "OneHot", "init_args": {"count": 7}}]},
    }
    Path("how.yaml").write_text(json.dumps(config))
    find(*HALF, "--config", "how.yaml", "--length", 2)
    row = result()
    assert (row["target_id"], row["prompt_length"], row["steps"]) == ("given/0", 2, 2)
    assert "random" in row["method"]


def test_mistakes_are_one_line_and_leave_nothing(find, cli):
    for options, message in [
        (("--target", "x"), "--target: 'x' is no TEXT=P"),
        ((), "find: the following arguments are required: --target"),
        ((*HALF, "--lengt", "3"), "unknown option --lengt"),
        ((*HALF, "--length", "0"), ""),
        ((*HALF, "--steps", "x"), "find: argument --steps: invalid int value: 'x'"),
        ((*HALF, "--trainer.fast_dev_run", "1"), "a run's folder is kept by this command"),
    ]:
        said = find(*options, code=2)
        assert said.splitlines()[-1].startswith(f"lit_prompt: error: {message}")
        assert "Traceback" not in said
    assert not Path("logs").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_goes_on_as_a_fit(find, cli, monkeypatch, number, code):
    step, calls = ChunkSearch.step, []

    def interrupted(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            signal.raise_signal(number)
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkSearch, "step", interrupted)
        said = find(*HALF, *QUICK, "--hard", code=code)
    assert "lit_prompt fit --run logs/find/version_0" in said.splitlines()[-1]
    cli("fit", "--run", "logs/find/version_0")
    cli("test", "--run", "logs/find/version_0")
    assert result()["steps"] == 3


def test_an_interrupted_evaluation_says_that_the_prompt_is_kept(find, monkeypatch):
    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lit_prompt.models.evaluator.Evaluator.columns", interrupted)
    said = find(*HALF, *QUICK, "--hard", code=130)
    assert said.splitlines()[-1].endswith("Evaluate it with: lit_prompt test --run logs/find/version_0")
