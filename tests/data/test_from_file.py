"""Users' targets: strings by their first tokens, contexts, and no more memory than what is listed."""

import json
import math
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_prompt.data import TargetSet
from lit_prompt.data.families import FromFile
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

SIZE = 320
# first tokens in the tiny tokenizer: " the king" is [" the", " ", "kin", "g"], " fox" is [" f", "ox"]
THE, F, THREE = 259, 266, 283
FIRST = {"strings": "first_tokens"}
ANSWERS = {" the king": 0.25, " fox": 0.25, " three": 0.5}


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


def read(path, vocabulary, **options):
    return list(FromFile(path, **options).targets(vocabulary))


def jsonl(folder, *records):
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows(folder, name, columns):
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path)
    else:
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(lines) + "\n")
    return path


STRINGS = {
    "object": lambda folder: jsonl(folder, {"name": "q", "strings": ANSWERS}),
    "lists": lambda folder: jsonl(folder, {"name": "q", "strings": list(ANSWERS), "probs": list(ANSWERS.values())}),
    "csv": lambda folder: rows(
        folder, "x.csv", {"name": ["q"] * 3, "string": list(ANSWERS), "prob": list(ANSWERS.values())}
    ),
    "parquet": lambda folder: rows(
        folder, "x.parquet", {"name": ["q"] * 3, "string": list(ANSWERS), "prob": list(ANSWERS.values())}
    ),
}


@pytest.mark.parametrize("form", STRINGS)
def test_strings_stand_for_their_first_tokens(form, tmp_path, vocabulary):
    (target,) = read(STRINGS[form](tmp_path), vocabulary, **FIRST)
    expected = np.zeros(SIZE)
    expected[[THE, F, THREE]] = 0.25, 0.25, 0.5
    np.testing.assert_allclose(target.dense(SIZE).double().exp().numpy(), expected, rtol=1e-6, atol=0)
    assert target.target_id == "user/q"
    assert target.entropy == pytest.approx(1.5 * math.log(2), rel=1e-6)
    # what is a single token anyway is not worth a note
    assert target.metadata.pop("note") == "first tokens stand for strings: ' the' for ' the king', ' f' for ' fox'"
    assert target.metadata == {"first_tokens": {text: vocabulary.continuation_ids(text)[0] for text in ANSWERS}}


def test_single_tokens_need_no_note(tmp_path, vocabulary):
    (target,) = read(jsonl(tmp_path, {"strings": {" three": 0.5, " and": 0.5}, "note": "mine"}), vocabulary)
    assert target.metadata["note"] == "mine"


def test_a_note_of_the_users_own_is_kept(tmp_path, vocabulary):
    (target,) = read(jsonl(tmp_path, {"strings": {" fox": 1.0}, "note": "mine", "year": 3}), vocabulary, **FIRST)
    assert target.metadata["note"] == "first tokens stand for strings: ' f' for ' fox'; mine"
    assert target.metadata["year"] == 3


def test_a_slip_becomes_a_note(tmp_path, vocabulary):
    path = jsonl(tmp_path, {"probs": {"a": 1.0}, "contxt": "b"})
    (target,) = read(path, vocabulary)
    assert target.metadata["note"] == f"{path}:1: 'contxt' is not read; did you mean 'context'?"


_words = st.lists(
    st.text(alphabet="aehimnostwxé ", min_size=1, max_size=12).map(lambda word: " " + word),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(deadline=None, max_examples=60)
@given(words=_words)
def test_the_first_token_is_that_of_the_text_itself(words, vocabulary, tmp_path_factory):
    # a byte-level tokenizer puts nothing in front of a text: encoding it is an independent reference
    first = {word: vocabulary.encode(word)[0] for word in words}
    path = jsonl(tmp_path_factory.mktemp("words"), {"strings": dict.fromkeys(words, 1 / len(words))})
    if len(set(first.values())) < len(words):
        with pytest.raises(InputError, match=r"x.jsonl:1: strings of 'x-1' share their first token"):
            read(path, vocabulary, **FIRST)
    else:
        (target,) = read(path, vocabulary, **FIRST)
        p = target.dense(SIZE).exp().numpy()
        assert {i for i in range(SIZE) if p[i] > 0} == set(first.values())


def test_colliding_strings_are_all_listed(tmp_path, vocabulary):
    good = {"strings": {" three": 1.0}}
    bad = {"name": "q", "strings": {" fox": 0.2, " hair": 0.2, " far": 0.2, " hans": 0.2, " house": 0.1, " three": 0.1}}
    with pytest.raises(InputError) as error:
        read(jsonl(tmp_path, good, bad), vocabulary, **FIRST)
    assert str(error.value).startswith(f"{tmp_path / 'x.jsonl'}:2: strings of 'q' share their first token")
    assert str(error.value).endswith("' fox', ' far' begin with ' f'; ' hair', ' hans', ' house' begin with ' h'")


def test_colliding_strings_of_a_column(tmp_path, vocabulary):
    columns = {"name": ["p", "q", "q"], "string": [" fox", " hair", " hans"], "prob": [1.0, 0.5, 0.5]}
    with pytest.raises(InputError, match=r"x.csv:3: strings of 'q' .*: ' hair', ' hans' begin with ' h'$"):
        read(rows(tmp_path, "x.csv", columns), vocabulary, **FIRST)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"strings": {"": 1.0}}, "the string '' is empty"),
        ({"strings": [" fox", " fox"], "probs": [0.5, 0.5]}, "string ' fox' is listed twice"),
        ({"strings": {" fox": 0.5, " hair": 0.4}}, "of 'x-1' sum to 0.9, not to 1"),
        ({"probs": {" fox": 1.0}}, r"splits into \[' f', 'ox'\] .*; for texts of several tokens use \"strings\""),
        ({"tokens": [" fox"], "probs": [1.0]}, 'use "strings"'),
    ],
)
def test_errors(record, message, tmp_path, vocabulary):
    with pytest.raises(InputError, match=message) as error:
        read(jsonl(tmp_path, record), vocabulary, **FIRST)
    assert str(error.value).startswith(f"{tmp_path / 'x.jsonl'}:1: ")


def test_contexts_go_to_their_targets(tmp_path, vocabulary):
    path = jsonl(
        tmp_path,
        {"probs": {"a": 1.0}, "context": "Q: "},
        {"probs": {"a": 1.0}, "context": {"before": "", "after": " A:"}},
        {"probs": {"a": 1.0}},
    )
    made = read(path, vocabulary)
    assert [(target.before, target.after) for target in made] == [("Q: ", None), ("", " A:"), (None, None)]
    assert all(target.metadata == {} for target in made)
    batch = TargetSet.write(tmp_path / "set", made, SIZE, vocabulary.fingerprint).batch([2, 1, 0])
    assert batch.texts == [(None, None, None), ("", " A:", None), ("Q: ", None, None)]


def test_every_mistake_is_reported_and_the_rest_is_read(tmp_path, vocabulary):
    path = jsonl(
        tmp_path,
        {"name": "a", "probs": {" fox": 0.6, "a": 1.5, " hair": "x"}},
        {"name": "b", "probs": {"a": 1.0}},
        {"name": "b", "strings": {" hair": 0.5, " hans": 0.4}},
        {"name": "c", "probs": {"a": 0.5}, "contxt": "x"},
        {"name": "d", "strings": {" hair": 1.0}, "context": 1},
    )
    errors, warnings = [], []
    made = list(FromFile(path, **FIRST).read(vocabulary, errors.append, warnings.append))
    assert [target.target_id for target in made] == ["user/b"]
    expected = [
        (1, "' fox' is not exactly one token"),
        (1, "probability 1.5 of 'a'"),
        (1, "' hair' is not exactly one token"),
        (1, "probability 'x' of ' hair'"),
        (3, "share their first token"),
        (3, "of 'b' sum to 0.9"),
        (3, "the name 'b' was used before, at"),
        (4, "of 'c' sum to 0.5"),
        (5, '"context" is 1'),
    ]
    messages = [str(error) for error in errors]
    assert len(messages) == len(expected)
    for line, words in expected:
        assert any(message.startswith(f"{path}:{line}: ") and words in message for message in messages), (
            words,
            messages,
        )
    assert warnings == [f"{path}:4: 'contxt' is not read; did you mean 'context'?"]


class AllDefined(Vocabulary):
    """A vocabulary of 10^9 tokens."""

    _named = defined_ids = range(10**9)
    undefined_ids = ()


@pytest.mark.parametrize("rest", ["zero", "spread"])
def test_a_target_holds_no_more_than_its_file_lists(rest, tmp_path, tokenizer):
    listed, vocab_size = 5, 10**9
    records = [{"ids": [7 * i + k for k in range(listed)], "probs": [0.2] * listed} for i in range(100)]
    if rest == "spread":
        records = [record | {"probs": [0.1] * listed} for record in records]
    path = jsonl(tmp_path, *records)
    vocabulary = AllDefined(tokenizer, vocab_size)
    tracemalloc.start()
    made = read(path, vocabulary, rest=rest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert {len(target.log_probs) for target in made} == {listed}
    assert made[3].token_ids.tolist() == [21, 22, 23, 24, 25]
    entropy = math.log(listed) if rest == "zero" else 0.5 * math.log(10) + 0.5 * math.log((vocab_size - listed) / 0.5)
    assert made[3].entropy == pytest.approx(entropy, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    weights=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20).filter(lambda w: sum(w) > 0),
    share=st.floats(0.01, 0.999),
)
def test_entropy_of_a_spread_rest(weights, share, vocabulary, tmp_path_factory):
    probs = share * np.array(weights) / sum(weights)
    path = jsonl(tmp_path_factory.mktemp("p"), {"ids": list(range(len(probs))), "probs": probs.tolist()})
    (target,) = read(path, vocabulary, rest="spread")
    dense = np.full(SIZE, (1 - probs.sum()) / (SIZE - len(probs)))
    dense[: len(probs)] = probs
    np.testing.assert_allclose(target.dense(SIZE).double().exp().numpy(), dense, rtol=1e-5, atol=1e-38)
    assert target.entropy == pytest.approx(scipy.stats.entropy(dense), abs=1e-6)
