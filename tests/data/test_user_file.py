"""The files of a user's own distributions: what is read, and one readable line for everything that is wrong."""

import json
import math

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lit_prompt.data import TargetSet
from lit_prompt.data.families import FromFile
from lit_prompt.data.user_file import read_distributions
from lit_prompt.errors import InputError
from lit_prompt.lm import LMOptions, Vocabulary
from tests.conftest import EMBEDDED_LLAMA, REPOSITORY

SIZE = 320
A, SPACE_A, NO = 65, 260, 301  # "a", " a" and "no" in the tiny tokenizer


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


def write(folder, name, content):
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def read(path, vocabulary, rest="zero"):
    return list(FromFile(path, rest).targets(vocabulary))


def probabilities(target):
    return np.exp(target.dense(SIZE).double().numpy())


def expected(mass, rest=0.0):
    p = np.full(SIZE, rest)
    for token, value in mass.items():
        p[token] = value
    return p


COIN = {A: 0.25, SPACE_A: 0.25, NO: 0.5}
FORMATS = {
    "dict": ("x.jsonl", '{"name": "coin", "probs": {"a": 0.25, " a": 0.25, "no": 0.5}}\n'),
    "tokens": ("x.jsonl", '{"name": "coin", "tokens": ["a", " a", "no"], "probs": [0.25, 0.25, 0.5]}\n'),
    "ids": ("x.jsonl", '{"name": "coin", "ids": [65, 260, 301], "probs": [0.25, 0.25, 0.5]}\n'),
    "blank lines": ("x.jsonl", '\n{"name": "coin", "ids": [65, 260, 301], "probs": [0.25, 0.25, 0.5]}\n  \n'),
    "no last newline": ("x.jsonl", '{"name": "coin", "ids": [65, 260, 301], "probs": [0.25, 0.25, 0.5]}'),
    "csv tokens": ("x.csv", "name,token,prob\ncoin,a,0.25\ncoin, a,0.25\ncoin,no,0.5\n"),
    "csv quoted": ("x.csv", 'prob,name,token\r\n0.25,coin,"a"\r\n0.25,coin," a"\r\n0.5,coin,"no"\r\n'),
    "csv ids": ("x.csv", "name,id,prob\ncoin,65,0.25\ncoin,260,0.25\ncoin,301,0.5\n"),
    "parquet tokens": ("x.parquet", {"name": ["coin"] * 3, "token": ["a", " a", "no"], "prob": [0.25, 0.25, 0.5]}),
    "parquet ids": ("x.parquet", {"name": ["coin"] * 3, "id": [65, 260, 301], "prob": [0.25, 0.25, 0.5]}),
    "csv semicolons": ("x.csv", "name;token;prob\ncoin;a;0,25\ncoin; a;0,25\ncoin;no;0,5\n"),
    "csv tabs": ("x.csv", "name\ttoken\tprob\ncoin\ta\t0.25\ncoin\t a\t0.25\ncoin\tno\t0.5\n"),
    "tsv": ("x.tsv", "name\ttoken\tprob\ncoin\ta\t0.25\ncoin\t a\t0.25\ncoin\tno\t0.5\n"),
    "suffix in capitals": ("x.CSV", "name,token,prob\ncoin,a,0.25\ncoin, a,0.25\ncoin,no,0.5\n"),
    "columns without a name": ("x.csv", "name,token,prob,,\ncoin,a,0.25,,\ncoin, a,0.25,,\ncoin,no,0.5,,\n"),
    "counts": ("x.jsonl", '{"name": "coin", "counts": {"a": 5, " a": 5, "no": 10}}\n'),
    "csv counts": ("x.csv", "name,token,count\ncoin,a,5\ncoin, a,5\ncoin,no,10\n"),
    "percent": ("x.jsonl", '{"name": "coin", "tokens": ["a", " a", "no"], "percent": [25, 25, 50]}\n'),
    "csv percent": ("x.csv", "name;token;percent\ncoin;a;25 %\ncoin; a;25%\ncoin;no;50,0\n"),
    "log_probs": (
        "x.jsonl",
        json.dumps(
            {
                "name": "coin",
                "log_probs": {"a": math.log(0.25), " a": math.log(0.25), "no": math.log(0.5), "y": -9999.0},
            }
        ),
    ),
    "parquet log_prob": (
        "x.parquet",
        {"name": ["coin"] * 3, "token": ["a", " a", "no"], "log_prob": np.log([0.25, 0.25, 0.5]).tolist()},
    ),
    "parquet lists": ("x.parquet", {"name": ["coin"], "ids": [[65, 260, 301]], "counts": [[1, 1, 2]]}),
    "parquet objects": ("x.parquet", {"name": ["coin"], "probs": [{"a": 0.25, " a": 0.25, "no": 0.5, "y": None}]}),
    "parquet float ids": ("x.parquet", {"name": ["coin"] * 3, "id": [65.0, 260.0, 301.0], "prob": [0.25, 0.25, 0.5]}),
}


@pytest.mark.parametrize("rest", ["zero", "spread"])
@pytest.mark.parametrize("case", FORMATS)
def test_every_format_gives_the_same_target(case, rest, tmp_path, vocabulary):
    (target,) = read(write(tmp_path, *FORMATS[case]), vocabulary, rest)
    assert (target.target_id, target.family, target.seed) == ("user/coin", "user", None)
    np.testing.assert_allclose(probabilities(target), expected(COIN), rtol=1e-6, atol=0)
    assert target.entropy == pytest.approx(1.5 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("case", ["dict", "csv tokens"])
def test_a_byte_order_mark_is_no_text(case, tmp_path, vocabulary):
    name, content = FORMATS[case]
    (target,) = read(write(tmp_path, name, b"\xef\xbb\xbf" + content.encode()), vocabulary)
    np.testing.assert_allclose(probabilities(target), expected(COIN), rtol=1e-6, atol=0)


def test_a_byte_order_mark_between_files_that_were_joined_is_no_text(tmp_path, vocabulary):
    content = '{"name": "%s", "probs": {"a": 1}}\n'
    path = write(tmp_path, "x.jsonl", "".join("\ufeff" + content % name for name in "bc"))
    assert [target.target_id for target in read(path, vocabulary)] == ["user/b", "user/c"]


def test_several_jsonl_distributions_keep_their_order(tmp_path, vocabulary):
    path = write(
        tmp_path, "x.jsonl", '{"probs": {"no": 1}}\n\n{"name": "b", "probs": {"a": 1.0}}\n{"probs": {" a": 1}}\n'
    )
    made = read(path, vocabulary)
    assert [t.target_id for t in made] == ["user/x-1", "user/b", "user/x-4"]
    assert [int(t.dense(SIZE).argmax()) for t in made] == [NO, A, SPACE_A]


def test_several_csv_distributions_may_be_interleaved(tmp_path, vocabulary):
    path = write(tmp_path, "x.csv", "token,prob,name\na,0.5,one\nno,0.75,two\n a,0.5,one\na,0.25,two\n")
    one, two = read(path, vocabulary)
    assert (one.target_id, two.target_id) == ("user/one", "user/two")
    np.testing.assert_allclose(probabilities(one), expected({A: 0.5, SPACE_A: 0.5}), rtol=1e-6)
    np.testing.assert_allclose(probabilities(two), expected({NO: 0.75, A: 0.25}), rtol=1e-6)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_without_names_the_file_is_one_distribution(name, tmp_path, vocabulary):
    content = "token,prob\na,0.5\nno,0.5\n" if name == "x.csv" else {"token": ["a", "no"], "prob": [0.5, 0.5]}
    (target,) = read(write(tmp_path, name, content), vocabulary)
    assert target.target_id == "user/x"


def test_numbers_are_names(tmp_path, vocabulary):
    path = write(tmp_path, "x.parquet", {"name": [0, 1], "token": ["a", "no"], "prob": [1.0, 1.0]})
    assert [t.target_id for t in read(path, vocabulary)] == ["user/0", "user/1"]


def test_the_familys_name_goes_into_ids(tmp_path, vocabulary):
    path = write(tmp_path, *FORMATS["dict"])
    (target,) = FromFile(path, name="mine").targets(vocabulary)
    assert (target.target_id, target.family) == ("mine/coin", "mine")


def test_everything_else_is_metadata_whatever_its_name(tmp_path, vocabulary):
    other = {"seed": 3, "family": "f", "logits": [1], "target_id": "t", "cls": None, "note": {"deep": 0.5}}
    path = write(tmp_path, "x.jsonl", json.dumps({"probs": {"a": 1.0}} | other) + "\n")
    (target,) = read(path, vocabulary)
    assert target.metadata == other
    assert (target.seed, target.family, target.target_id) == (None, "user", "user/x-1")


def test_a_zero_may_be_listed(tmp_path, vocabulary):
    (target,) = read(write(tmp_path, "x.jsonl", '{"probs": {"a": 1.0, "no": 0.0}}'), vocabulary)
    assert target.dense(SIZE)[NO].item() == -math.inf
    assert target.dense(SIZE)[A].item() == 0.0


@pytest.mark.parametrize("each", [0.1667, 0.1666])
def test_a_rounded_sum_is_normalised(each, tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", json.dumps({"ids": [1, 2, 3, 4, 5, 6], "probs": [each] * 6}))
    for rest in ("zero", "spread"):
        (target,) = read(path, vocabulary, rest)
        assert probabilities(target).sum() == pytest.approx(1.0, abs=1e-6)
        if rest == "zero":
            np.testing.assert_allclose(
                probabilities(target), expected(dict.fromkeys(range(1, 7), 1 / 6)), rtol=1e-6, atol=0
            )


def test_spread_divides_the_rest_evenly(tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", '{"probs": {"a": 0.5, "no": 0.25, " a": 0.0}}')
    (target,) = read(path, vocabulary, "spread")
    mass = {A: 0.5, NO: 0.25, SPACE_A: 0.0}
    np.testing.assert_allclose(probabilities(target), expected(mass, 0.25 / (SIZE - 3)), rtol=1e-6, atol=0)


def test_spread_of_nothing_listed_but_zeros_is_uniform_over_the_others(tmp_path, vocabulary):
    (target,) = read(write(tmp_path, "x.jsonl", '{"probs": {"a": 0.0}}'), vocabulary, "spread")
    np.testing.assert_allclose(probabilities(target), expected({A: 0.0}, 1 / (SIZE - 1)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rest", ["zero", "spread"])
def test_every_token_may_be_listed(rest, tmp_path, vocabulary):
    p = np.random.default_rng(0).dirichlet(np.ones(SIZE))
    path = write(tmp_path, "x.jsonl", json.dumps({"ids": list(range(SIZE)), "probs": p.tolist()}))
    (target,) = read(path, vocabulary, rest)
    np.testing.assert_allclose(probabilities(target), p, rtol=2e-6)


def test_rounded_percentages_are_normalised(tmp_path, vocabulary):
    (target,) = read(write(tmp_path, "x.jsonl", '{"percent": {"a": 33, " a": 33, "no": 33}}\n'), vocabulary)
    np.testing.assert_allclose(probabilities(target), expected(dict.fromkeys(COIN, 1 / 3)), rtol=1e-6)


def test_the_tolerance_is_the_users(tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", '{"probs": {"a": 0.33, " a": 0.33, "no": 0.33}}\n')
    (target,) = FromFile(path, tolerance=0.011).targets(vocabulary)
    np.testing.assert_allclose(probabilities(target), expected(dict.fromkeys(COIN, 1 / 3)), rtol=1e-6)
    with pytest.raises(InputError, match=r"sum to 0\.99, not to 1 \(within 0\.009\)"):
        list(FromFile(path, tolerance=0.009).targets(vocabulary))


@pytest.mark.parametrize("case", ["counts", "csv counts"])
def test_counts_are_noted(case, tmp_path, vocabulary):
    (target,) = read(path := write(tmp_path, *FORMATS[case]), vocabulary)
    line = 1 if case == "counts" else 2
    assert target.metadata["note"] == f"{path}:{line}: counts of 'coin', divided by their sum, 20"


def test_counts_leave_nothing_to_spread_and_log_probabilities_do(tmp_path, vocabulary):
    (target,) = read(write(tmp_path, "x.jsonl", '{"counts": {"a": 0.25, "no": 0.25}}\n'), vocabulary, "spread")
    np.testing.assert_allclose(probabilities(target), expected({A: 0.5, NO: 0.5}), rtol=1e-6)
    line = json.dumps({"log_probs": {"a": math.log(0.5)}})
    (target,) = read(write(tmp_path, "x.jsonl", line), vocabulary, "spread")
    np.testing.assert_allclose(probabilities(target), expected({A: 0.5}, rest=0.5 / (SIZE - 1)), rtol=1e-6)


# ---- folders of datasets ----

SAVED = {
    "a row an answer": {"name": ["coin"] * 3, "token": ["a", " a", "no"], "count": [1, 1, 2]},
    "a row a distribution": {"name": ["coin"], "tokens": [["a", " a", "no"]], "probs": [[0.25, 0.25, 0.5]]},
    "objects": {"name": ["coin"], "percent": [{"a": 25, " a": 25, "no": 50}], "context": [None]},
}


@pytest.mark.parametrize("case", SAVED)
def test_a_folder_of_datasets_gives_the_same_target(case, tmp_path, vocabulary):
    datasets.Dataset.from_dict(SAVED[case]).save_to_disk(str(tmp_path / "saved"))
    (target,) = read(tmp_path / "saved", vocabulary)
    assert target.target_id == "user/coin"
    np.testing.assert_allclose(probabilities(target), expected(COIN), rtol=1e-6, atol=0)


def test_keys_that_other_rows_of_a_folder_have_are_no_answers(tmp_path, vocabulary):
    rows = {"name": ["coin", "other"], "probs": [{"a": 0.25, " a": 0.25, "no": 0.5}, {"y": 1.0}]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    coin, other = read(tmp_path / "saved", vocabulary)
    np.testing.assert_allclose(probabilities(coin), expected(COIN), rtol=1e-6, atol=0)
    assert other.entropy == 0.0


def test_mistakes_in_a_folder_of_datasets_name_it_and_the_row(tmp_path, vocabulary):
    datasets.Dataset.from_dict({"token": ["a", "yes"], "prob": [0.5, 0.5]}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(InputError, match=rf"^{tmp_path}/saved: row 2: 'yes' is not exactly one token"):
        read(tmp_path / "saved", vocabulary)
    with pytest.raises(InputError, match=rf"^{tmp_path}: not a folder that datasets' save_to_disk wrote \(.*\)$"):
        read(tmp_path, vocabulary)
    datasets.DatasetDict(test=datasets.Dataset.from_dict({"token": ["a"]})).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InputError, match=r"splits: holds the splits test; name the folder of one, .*splits/test$"):
        read(tmp_path / "splits", vocabulary)
    TargetSet.write(tmp_path / "built", read(write(tmp_path, *FORMATS["dict"]), vocabulary), SIZE, "v")
    with pytest.raises(InputError, match=r"built: is a set of targets .* name it with data\.load"):
        read(tmp_path / "built", vocabulary)


def test_the_files_that_come_along_are_in_order():
    vocabulary = Vocabulary.load(str(EMBEDDED_LLAMA), LMOptions())
    vocabulary.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    found = {path.name: list(FromFile(path).targets(vocabulary)) for path in (REPOSITORY / "data/targets").iterdir()}
    assert {path: len(targets) for path, targets in found.items()} == {
        "die.jsonl": 3, "survey.jsonl": 10, "survey_chat.jsonl": 10, "wordings.jsonl": 8, "poll.csv": 1,
        "animals.tsv": 2, "api.jsonl": 1,
    }  # fmt: skip


def test_targets_are_read_one_by_one(tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", '{"probs": {"a": 1.0}}\nbroken\n')
    made = FromFile(path).targets(vocabulary)
    assert torch.equal(next(made).dense(SIZE).isfinite().nonzero().flatten(), torch.tensor([A]))
    with pytest.raises(InputError, match=r"x.jsonl:2: not JSON"):
        next(made)


# ---- errors: (file, content, where, message) ----

GOOD = '{"probs": {"a": 1.0}}\n'
PAIR = '{"probs": [0.5, 0.5], '
ERRORS = {
    "malformed": ("x.jsonl", GOOD + '{"probs": {"a": 1.0}\n', ":2: ", r"not JSON \(.* at column \d+\)"),
    "malformed after a blank": ("x.jsonl", "\n\n{probs}\n", ":3: ", "not JSON"),
    "list": ("x.jsonl", GOOD + "[1, 2]\n", ":2: ", "not an object"),
    "number": ("x.jsonl", "3\n", ":1: ", "not an object"),
    "deeply nested": ("x.jsonl", "[" * 200_000 + "\n", ":1: ", "recursion"),
    "number of 5,000 digits": ("x.jsonl", '{"probs": {"a": ' + "1" * 5000 + "}}\n", ":1: ", "digits"),
    "no probs": ("x.jsonl", GOOD + '{"name": "b"}\n', ":2: ", 'needs "probs"'),
    "empty object": ("x.jsonl", "{}\n", ":1: ", 'needs "probs"'),
    "probs misspelled": ("x.jsonl", '{"prob": {"a": 1.0}}\n', ":1: ", "needs \"probs\" .*; did you mean 'probs'"),
    "strings and tokens": ("x.jsonl", PAIR + '"strings": [], "tokens": []}\n', ":1: ", 'needs "probs"'),
    "strings and probs": ("x.jsonl", '{"strings": {"a": 1.0}, "probs": {"a": 1.0}}\n', ":1: ", 'needs "probs"'),
    "strings without probs": ("x.jsonl", '{"strings": ["a"]}\n', ":1: ", 'needs "probs"'),
    "string as number": ("x.jsonl", PAIR + '"strings": ["a", 2]}\n', ":1: ", "string 2 is not a text"),
    "unequal strings": ("x.jsonl", PAIR + '"strings": ["a"]}\n', ":1: ", "1 strings but 2 probabilities"),
    "context as number": ("x.jsonl", GOOD + '{"probs": {"a": 1}, "context": 3}\n', ":2: ", '"context" is 3; give'),
    "context as list": ("x.jsonl", '{"probs": {"a": 1}, "context": ["b"]}\n', ":1: ", "\"context\" is .'b'.; give"),
    "context key": (
        "x.jsonl", '{"probs": {"a": 1}, "context": {"befor": "b"}}\n', ":1: ", "\"context\" has no key 'befor'; its"
    ),
    "context side": (
        "x.jsonl", '{"probs": {"a": 1}, "context": {"after": 1}}\n', ":1: ", '"after" in "context" is 1, not a text'
    ),
    "half a character": ("x.jsonl", '{"probs": {"\\ud800": 1}}\n', ":1: ", "half of a surrogate pair"),
    "probs without tokens": ("x.jsonl", '{"probs": [1.0]}\n', ":1: ", 'list of "tokens" or "ids"'),
    "tokens without probs": ("x.jsonl", '{"tokens": ["a"]}\n', ":1: ", 'needs "probs"'),
    "probs is a number": ("x.jsonl", '{"tokens": ["a"], "probs": 1.0}\n', ":1: ", 'needs "probs"'),
    "tokens and ids": ("x.jsonl", PAIR + '"tokens": ["a", "no"], "ids": [1, 2]}\n', ":1: ", '"tokens" or "ids"'),
    "dict and tokens": ("x.jsonl", '{"probs": {"a": 1.0}, "tokens": ["a"]}\n', ":1: ", 'needs "probs"'),
    "unequal lengths": ("x.jsonl", PAIR + '"tokens": ["a"]}\n', ":1: ", "1 tokens but 2 probabilities"),
    "id as text": ("x.jsonl", PAIR + '"ids": [1, "a"]}\n', ":1: ", "id 'a' is not a whole number"),
    "id as fraction": ("x.jsonl", PAIR + '"ids": [1, 2.5]}\n', ":1: ", "id 2.5 is not a whole number"),
    "id as truth": ("x.jsonl", PAIR + '"ids": [1, true]}\n', ":1: ", "id True is not a whole number"),
    "token as number": ("x.jsonl", PAIR + '"tokens": ["a", 2]}\n', ":1: ", "token 2 is not a text"),
    "negative": ("x.jsonl", GOOD + '{"probs": {"a": 1.5, "no": -0.5}}\n', ":2: ", "1.5 of 'a' is not between 0 and 1"),
    "below zero": ("x.jsonl", '{"probs": {"no": -0.5, "a": 1}}\n', ":1: ", "-0.5 of 'no' is not between"),
    "NaN": ("x.jsonl", '{"probs": {"a": NaN}}\n', ":1: ", "probability nan of 'a' is not between"),
    "infinite": ("x.jsonl", '{"probs": {"a": Infinity}}\n', ":1: ", "probability inf of 'a'"),
    "minus infinite": ("x.jsonl", '{"probs": {"a": -1e999}}\n', ":1: ", "probability -inf of 'a'"),
    "too big for a float": ("x.jsonl", '{"probs": {"a": 1' + "0" * 400 + "}}\n", ":1: ", "is not a number"),
    "text": ("x.jsonl", '{"probs": {"a": "half"}}\n', ":1: ", "probability 'half' of 'a' is not a number"),
    "null": ("x.jsonl", '{"probs": {"a": null}}\n', ":1: ", "probability None of 'a' is not a number"),
    "list as probability": ("x.jsonl", '{"probs": {"a": [1.0]}}\n', ":1: ", "is not a number"),
    "sum too small": ("x.jsonl", '{"name": "n", "probs": {"a": 0.5, "no": 0.4988}}\n', ":1: ", "of 'n' sum to 0.9988"),
    "sum too big": ("x.jsonl", '{"name": "n", "probs": {"a": 0.5, "no": 0.5012}}\n', ":1: ", "of 'n' sum to 1.0012"),
    "all zero": ("x.jsonl", '{"probs": {"a": 0.0}}\n', ":1: ", "sum to 0, not to 1"),
    "empty dict": ("x.jsonl", GOOD + '{"probs": {}}\n', ":2: ", "the distribution is empty"),
    "empty lists": ("x.jsonl", '{"probs": [], "ids": []}\n', ":1: ", "the distribution is empty"),
    "name twice": (
        "x.jsonl", '{"name": "n", "probs": {"a": 1}}\n' * 2, ":2: ", r"the name 'n' was used before, at .*x.jsonl:1"
    ),
    "token twice": ("x.jsonl", PAIR + '"tokens": ["a", "a"]}\n', ":1: ", "token 'a' is listed twice"),
    "id twice": ("x.jsonl", PAIR + '"ids": [7, 7]}\n', ":1: ", "token 7 is listed twice"),
    "key twice": ("x.jsonl", GOOD + '{"probs": {"a": 0.5, "a": 1.0}}\n', ":2: ", "'a' is listed twice"),
    "probs twice": ("x.jsonl", '{"probs": {"a": 1.0}, "probs": {"no": 1.0}}\n', ":1: ", "'probs' is listed twice"),
    "several tokens": (
        "x.jsonl", '{"probs": {"yes": 1.0}}\n', ":1: ", r"'yes' is not .* \['y', 'es'\] \(ids \[89, 270\]\)"
    ),
    "line break in a text": ("x.jsonl", '{"probs": {"a\\nb": 1.0}}\n', ":1: ", r"'a\\nb' is not exactly one token"),
    "line break in a name": ("x.jsonl", '{"name": "a\\nb", "probs": {"a": 0.1}}\n', ":1: ", r"of 'a\\nb' sum to 0.1"),
    "unknown id": ("x.jsonl", PAIR + '"ids": [1, 320]}\n', ":1: ", "token id 320 is not among 0 to 319"),
    "negative id": ("x.jsonl", PAIR + '"ids": [1, -1]}\n', ":1: ", "token id -1 is not among 0 to 319"),
    "not UTF-8": ("x.jsonl", GOOD.encode() * 2 + b'{"probs": {"\xe9": 1.0}}\n', ":3: ", "not UTF-8 text"),
    "not UTF-8, far down": ("x.jsonl", b"\n" * 20_000 + b"\xff\n", ":20001: ", "not UTF-8 text"),
    "not UTF-8, cut off": ("x.jsonl", b"\n\xc3", ":2: ", "not UTF-8 text"),
    "UTF-16": ("x.jsonl", GOOD.encode("utf-16"), ": ", "is UTF-16, not UTF-8 text; save it as UTF-8"),
    "UTF-16 without a mark": ("x.jsonl", GOOD.encode("utf-16-be"), ": ", "is UTF-16, not UTF-8 text"),
    "UTF-32": ("x.jsonl", GOOD.encode("utf-32"), ": ", "is UTF-16, not UTF-8 text"),
    "csv UTF-16": ("x.csv", "token,prob\na,1\n".encode("utf-16"), ": ", "is UTF-16, not UTF-8 text"),
    "tsv UTF-16": ("x.tsv", "token\tprob\na\t1\n".encode("utf-16-le"), ": ", "is UTF-16, not UTF-8 text"),
    "no line": ("x.jsonl", "", ": ", "holds no distribution"),
    "blank lines": ("x.jsonl", "\n\n", ": ", "holds no distribution"),
    "csv without prob": ("x.csv", "token,p\na,1\n", ": ", r"needs the columns prob .* has \['token', 'p'\]"),
    "csv without token": ("x.csv", "text,prob\na,1\n", ": ", "needs the columns prob .* and token"),
    "csv without header": ("x.csv", "a,1\n", ": ", "needs the columns prob .* and token"),
    "csv empty": ("x.csv", "", ": ", r"needs the columns .* has \[\]"),
    "csv header only": ("x.csv", "token,prob\n", ": ", "holds no distribution"),
    "csv token and string": ("x.csv", "token,string,prob\na,a,1\n", ": ", "both a column token and a column string"),
    "csv unquoted comma": ("x.csv", "token,prob,before\na,1,well, then\n", ":2: ", "more cells than there are columns"),
    "csv other context": (
        "x.csv", "token,prob,before\na,0.5,b\nno,0.5,c\n", ":3: ", r"before of 'x' is 'c' here but 'b' at .*x.csv:2"
    ),
    "csv context once": ("x.csv", "token,prob,after\na,0.5,b\nno,0.5,\n", ":3: ", "after of 'x' is empty here but"),
    "parquet context": (
        "x.parquet", {"token": ["a"], "prob": [1.0], "before": [3]}, ": row 1: ", "before is 3, not a text"
    ),
    "csv id": ("x.csv", "id,prob\n1,0.5\ntwo,0.5\n", ":3: ", "id 'two' is not a whole number"),
    "csv id as fraction": ("x.csv", "id,prob\n1.5,1\n", ":2: ", "id '1.5' is not a whole number"),
    "csv short row": ("x.csv", "prob,token\n0.5,a\n0.5\n", ":3: ", "token None is not a text"),
    "csv probability missing": ("x.csv", "token,prob\na,0.5\nno\n", ":3: ", "probability None of 'no'"),
    "csv probability empty": ("x.csv", "token,prob\na,0.5\nno,\n", ":3: ", "probability '' of 'no' is not a number"),
    "csv probability text": ("x.csv", "token,prob\na,0.5\nno,half\n", ":3: ", "probability 'half' of 'no'"),
    "csv NaN": ("x.csv", "token,prob\na,nan\n", ":2: ", "probability nan of 'a'"),
    "csv negative": ("x.csv", "token,prob\na,1\nno,-1\n", ":3: ", "probability -1 of 'no'"),
    "csv token twice": ("x.csv", "token,prob\na,0.5\nno,0\na,0.5\n", ":4: ", "token 'a' is listed twice"),
    "csv several tokens": ("x.csv", "token,prob\na,0.5\nyes,0.5\n", ":3: ", r"splits into \['y', 'es'\]"),
    "csv unknown id": ("x.csv", "id,prob\n1,0.5\n400,0.5\n", ":3: ", "token id 400 is not among"),
    "csv sum": ("x.csv", "name,token,prob\nb,a,1\nc,a,0.5\nc,no,0.4\n", ":3: ", "of 'c' sum to 0.9"),
    "csv not UTF-8": ("x.csv", b"token,prob\na,0.5\n\xe9,0.5\n", ":3: ", "not UTF-8 text"),
    "csv quote left open": ("x.csv", 'token,prob\n"a,1\n' + "no,0\n" * 40_000, ":", r"not CSV \(field larger than"),
    "parquet columns": ("x.parquet", {"word": ["a"], "prob": [1.0]}, ": ", r"needs .* has \['word', 'prob'\]"),
    "parquet number as token": ("x.parquet", {"token": [1], "prob": [1.0]}, ": row 1: ", "token 1 is not a text"),
    "parquet fraction as id": (
        "x.parquet", {"id": [1.0, 2.5], "prob": [0.5, 0.5]}, ": row 2: ", "id 2.5 is not a whole number"
    ),
    "parquet infinite id": ("x.parquet", {"id": [math.inf], "prob": [1.0]}, ": row 1: ", "id inf is not a whole"),
    "parquet no id": ("x.parquet", {"id": [1, None], "prob": [0.5, 0.5]}, ": row 2: ", "id None is not a whole"),
    "parquet probability": ("x.parquet", {"id": [1, 2], "prob": [1.0, None]}, ": row 2: ", "probability None of 2"),
    "parquet no rows": (
        "x.parquet", {"id": pa.array([], pa.int64()), "prob": pa.array([], pa.float64())}, ": ", "holds no distribution"
    ),
    "no Parquet": ("x.parquet", b"PAR1 not really", ": ", "not a Parquet file"),
    "empty Parquet": ("x.parquet", b"", ": ", "not a Parquet file"),
    "column twice": ("x.csv", "token,prob,prob\na,1,0\n", ": ", "the column 'prob' stands 2 times; keep one"),
    "two kinds of values": ("x.csv", "token,prob,count\na,1,1\n", ": ", "both a column prob and a column count"),
    "two kinds of values, object": (
        "x.jsonl", '{"probs": {"a": 1}, "counts": {"a": 1}}\n', ":1: ", 'has "probs" and "counts"; keep one'
    ),
    "counts of nothing": ("x.jsonl", '{"name": "n", "counts": {"a": 0}}\n', ":1: ", "all counts of 'n' are zero"),
    "negative count": ("x.csv", "token,count\na,-1\n", ":2: ", "count -1 of 'a' is not a number of 0 or more"),
    "endless count": ("x.jsonl", '{"counts": {"a": Infinity}}\n', ":1: ", "count inf of 'a'"),
    "count as text": ("x.csv", "token,count\na,many\n", ":2: ", "count 'many' of 'a' is not a number"),
    "percent too large": ("x.jsonl", '{"percent": {"a": 140}}\n', ":1: ", "140 of 'a' is not between 0 and 100"),
    "percents as probabilities": ("x.jsonl", '{"percent": {"a": 0.4, "no": 0.6}}\n', ":1: ", "sum to 1, not to 100"),
    "percent's sum": (
        "x.jsonl", '{"percent": {"a": 40, "no": 57}}\n', ":1: ", r"of 'x-1' sum to 97, not to 100 \(within 2\)"
    ),
    "rounded sum": ("x.jsonl", '{"probs": {"a": 0.33, "no": 0.66}}\n', ":1: ", "for rounded values raise tolerance"),
    "log_prob above 0": ("x.jsonl", '{"log_probs": {"a": 0.5}}\n', ":1: ", "log-probability 0.5 of 'a' is not"),
    "log_probs' sum": ("x.jsonl", '{"log_probs": {"a": -1}}\n', ":1: ", "log-probabilities of 'x-1' sum to 0.367"),
    "unequal counts": ("x.jsonl", '{"tokens": ["a"], "counts": [1, 2]}\n', ":1: ", "1 tokens but 2 counts"),
    "suffix": ("x.json", GOOD, ": ", r"must end in .jsonl, .csv, .tsv or .parquet"),
    "no suffix": ("x", GOOD, ": ", r"must end in .jsonl, .csv, .tsv or .parquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_with_file_and_line(case, tmp_path, vocabulary):
    name, content, where, message = ERRORS[case]
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as error:
        read(path, vocabulary)
    assert str(error.value).startswith(f"{path}{where}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tolerance", [-0.01, math.nan, math.inf])
def test_a_tolerance_that_is_none(tolerance, tmp_path):
    with pytest.raises(InputError, match=f"family user: tolerance is {tolerance:g}; give a number of at least 0"):
        FromFile(tmp_path / "x.jsonl", tolerance=tolerance)


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.csv", "absent.parquet", "absent"])
def test_a_missing_file(name, tmp_path, vocabulary):
    with pytest.raises(InputError, match="no such file") as error:
        read(tmp_path / name, vocabulary)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_sums_error_tells_of_spread_where_that_would_help(tmp_path, vocabulary):
    little = write(tmp_path, "little.jsonl", '{"probs": {"a": 0.5}}')
    with pytest.raises(InputError, match="rest: spread"):
        read(little, vocabulary)
    much = write(tmp_path, "much.jsonl", '{"probs": {"a": 0.6, "no": 0.6}}')
    with pytest.raises(InputError) as error:
        read(much, vocabulary)
    assert "spread" not in str(error.value)


def test_spread_refuses_a_sum_above_one(tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", '{"probs": {"a": 0.6, "no": 0.6}}')
    with pytest.raises(InputError, match=r"x.jsonl:1: .* sum to 1.2"):
        read(path, vocabulary, "spread")


def test_spread_refuses_a_rest_that_no_token_could_take(tmp_path, vocabulary):
    path = write(tmp_path, "x.jsonl", json.dumps({"ids": list(range(SIZE)), "probs": [0.5 / SIZE] * SIZE}))
    with pytest.raises(InputError, match=r"x.jsonl:1: .* sum to 0.5, not to 1") as error:
        read(path, vocabulary, "spread")
    assert "rest: spread" not in str(error.value)


def test_reading_needs_no_vocabulary(tmp_path):
    (entry,) = read_distributions(write(tmp_path, *FORMATS["csv tokens"]))
    assert (entry.name, entry.answers, entry.given) == ("coin", ["a", " a", "no"], ["0.25", "0.25", "0.5"])
    assert [entry.where_of(i) for i in range(3)] == [f"{tmp_path / 'x.csv'}:{line}" for line in (2, 3, 4)]


CONTEXTS = {
    "text": ("x.jsonl", '{"probs": {"a": 1}, "context": "b"}', ("b", None)),
    "null": ("x.jsonl", '{"probs": {"a": 1}, "context": null}', (None, None)),
    "before": ("x.jsonl", '{"probs": {"a": 1}, "context": {"before": "b"}}', ("b", None)),
    "after": ("x.jsonl", '{"probs": {"a": 1}, "context": {"after": "c"}}', (None, "c")),
    "both": ("x.jsonl", '{"probs": {"a": 1}, "context": {"before": "", "after": "c"}}', ("", "c")),
    "none": ("x.jsonl", '{"probs": {"a": 1}, "context": {}}', (None, None)),
    "csv": ("x.csv", "token,prob,before,after\na,0.5,\"b, c\",d\nno,0.5,\"b, c\",d\n", ("b, c", "d")),
    "csv empty cell": ("x.csv", "token,prob,before,after\na,1,,d\n", (None, "d")),
    "parquet": ("x.parquet", {"token": ["a"], "prob": [1.0], "before": ["b"], "after": [""]}, ("b", "")),
    "parquet null": (
        "x.parquet", {"token": ["a"], "prob": [1.0], "before": pa.array([None], pa.string())}, (None, None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTEXTS)
def test_contexts(case, tmp_path):
    name, content, expected_sides = CONTEXTS[case]
    (entry,) = read_distributions(write(tmp_path, name, content))
    assert entry.texts == (*expected_sides, None)
    assert entry.metadata == {}


def read_on(path):
    """Reads the whole file; what could be read, and the mistakes on the way."""
    errors = []
    return list(read_distributions(path, errors.append)), [str(error).removeprefix(str(path)) for error in errors]


def test_jsonl_is_read_on_after_a_mistake(tmp_path):
    good = b'{"probs": {"a": 1.0}}\n'
    bad = b'{"probs": \n' + b"\xff\n" + b'{"tokens": ["a", 1, 2], "probs": [1, 0, 0], "context": 3}\n' + b"[]\n"
    entries, errors = read_on(write(tmp_path, "x.jsonl", good + bad + good))
    assert [entry.line for entry in entries if not entry.faulty] == [1, 6]
    assert [error[: error.index(" ")] for error in errors] == [":2:", ":3:", ":4:", ":4:", ":4:", ":5:"]
    assert "token 1 is" in errors[2]
    assert "token 2 is" in errors[3]
    assert '"context" is 3' in errors[4]


def test_rows_are_read_on_after_a_mistake(tmp_path):
    content = "name,id,prob,before\na,1,1,x\nb,one,1,x\nb,2.5,0,y\nc,3,1,\nc,4,0,x, y\n"
    entries, errors = read_on(write(tmp_path, "x.csv", content))
    assert [(entry.name, entry.faulty) for entry in entries] == [("a", False), ("b", True), ("c", True)]
    assert [error[:3] for error in errors] == [":3:", ":4:", ":6:"]
    assert "id 'one'" in errors[0]
    assert "before of 'b' is 'y'" in errors[1]
    assert "more cells" in errors[2]


def test_a_csv_file_that_breaks_off_keeps_what_came_before(tmp_path):
    content = 'token,prob,name\na,1,one\n"a,1\n' + "no,0\n" * 40_000
    entries, errors = read_on(write(tmp_path, "x.csv", content))
    assert [entry.name for entry in entries] == ["one"]
    assert len(errors) == 1
    assert "not CSV" in errors[0]


@pytest.mark.parametrize("name", ["absent.jsonl", "x.txt"])
def test_what_cannot_be_read_at_all_is_reported_once(name, tmp_path):
    (tmp_path / "x.txt").touch()
    assert [len(found) for found in read_on(tmp_path / name)] == [0, 1]


WARNINGS = {
    "contxt": ("x.jsonl", '{"probs": {"a": 1}, "contxt": "b"}', [":1: 'contxt' is not read; did you mean 'context'?"]),
    "capital": ("x.jsonl", '\n{"probs": {"a": 1}, "Name": "b"}', [":2: 'Name' is not read; did you mean 'name'?"]),
    "token": ("x.jsonl", '{"probs": {"a": 1}, "token": 3}', [":1: 'token' is not read; did you mean 'tokens'?"]),
    "exchanged": ("x.jsonl", '{"probs": {"a": 1}, "spilt": 3}', [":1: 'spilt' is not read; did you mean 'split'?"]),
    "weight": ("x.csv", "token,prob,wieght\na,1,2\n", [":1: 'wieght' is not read; did you mean 'weight'?"]),
    "height": ("x.jsonl", '{"probs": {"a": 1}, "height": 3}', []),
    "before": ("x.jsonl", '{"probs": {"a": 1}, "before": "b"}', [":1: 'before' is not read here; write"]),
    "facts": ("x.jsonl", '{"probs": {"a": 1}, "id": 3, "source": "s", "year": 1990, "note": "n"}', []),
    "column": ("x.csv", "token,prob,befor\na,1,b\n", [":1: 'befor' is not read; did you mean 'before'?"]),
    "columns": ("x.csv", "token,prob,year,id\na,1,1990,3\n", []),
    "context column": ("x.csv", "token,prob,context\na,1,b\n", [":1: 'context' is not read; the columns for texts"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNINGS)
def test_what_looks_like_a_slip_is_a_warning(case, tmp_path):
    name, content, expected_warnings = WARNINGS[case]
    path = write(tmp_path, name, content)
    (entry,) = read_distributions(path)
    assert len(entry.warnings) == len(expected_warnings)
    for warning, start in zip(entry.warnings, expected_warnings, strict=True):
        assert warning.startswith(f"{path}{start}")
