"""Users' targets over whole answers, cells of them, chats and tasks."""

import copy
import json
import math

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lit_prompt.data.answer_tokens import AnswerTokens, first_beginning
from lit_prompt.data.families import FromFile
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary
from tests.lm.conftest import vocabularies as vocabularies

SIZE = 320
KINDS = ["tiny", "byte_level", "unigram", "llama2", "mistral", "gemma"]
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}<assistant>"
CHAT = [{"role": "system", "content": "Be {prompt}"}, {"role": "user", "content": "Who?"}]
BOTH = {" the king": 0.25, " the fox": 0.75}
CELLS = {"cells": {"yes": [" yes", " Yes", " three"], "no": [" no, said"]}, "probs": {"yes": 0.75, "no": 0.25}}


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


@pytest.fixture(scope="module")
def chatty(tokenizer):
    own = copy.copy(tokenizer)
    own.chat_template = TEMPLATE
    return Vocabulary(own, SIZE)


def jsonl(folder, *records):
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(folder, vocabulary, *records, **options):
    return list(FromFile(jsonl(folder, *records), **options).targets(vocabulary))


def spelled(vocabulary, answers):
    return ["".join(vocabulary.text(i) for i in ids) for ids in answers.ids]


# ---- answers ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [None, "said", "Yes,", "the king: "])
def test_whole_answers_are_their_tokens_in_context(kind, after, tmp_path, vocabularies):
    vocabulary = vocabularies[kind]
    record = {"name": "q", "strings": BOTH} | ({} if after is None else {"context": {"after": after}})
    (target,) = read(tmp_path, vocabulary, record)
    assert target.answers is not None
    assert target.answers.texts == target.answers.names == list(BOTH)
    assert target.answers.probs == pytest.approx(list(BOTH.values()))
    table = vocabulary.token_bytes
    for text, ids in zip(target.answers.texts, target.answers.ids, strict=True):
        assert b"".join(table[i] for i in ids) == text.encode()
        whole = vocabulary.encode_after((after or "") + text)
        assert whole[-len(ids) :] == ids or (after or "").endswith(" ")
    assert target.entropy == pytest.approx(-sum(p * math.log(p) for p in BOTH.values()))
    first = {ids[0] for ids in target.answers.ids}
    assert set(target.token_ids.tolist()) == first
    assert (target.texts.after, target.metadata) == (after, {})


def test_tokens_that_merge_over_the_boundary_are_those_of_the_answer_alone(vocabulary):
    tokens = AnswerTokens(vocabulary)
    assert vocabulary.encode("Yes, " + "the") != vocabulary.encode("Yes, ") + vocabulary.continuation_ids("the")
    assert tokens("the", "Yes, ") == vocabulary.continuation_ids("the")


def test_what_the_text_before_an_answer_makes_of_it_counts(vocabularies):
    # the pre-tokenizer takes digits and apostrophes with what stands before them
    vocabulary = vocabularies["byte_level"]
    tokens = AnswerTokens(vocabulary)
    for after, answer in [('"I was', " very well"), ("a", "'s king"), ("...", "...")]:
        whole, start = vocabulary.encode(after + answer), vocabulary.encode(after)
        expected = whole[len(start) :] if whole[: len(start)] == start else vocabulary.encode(answer)
        assert tokens(answer, after) == expected


def test_strings_of_a_token_each_are_tokens(tmp_path, vocabulary):
    (target,) = read(tmp_path, vocabulary, {"strings": {" three": 0.5, " and": 0.5}})
    assert target.answers is None
    first = {text: vocabulary.token_id(text) for text in (" three", " and")}
    assert target.metadata == {"first_tokens": first}
    assert set(target.token_ids.tolist()) == set(first.values())


def test_answers_of_no_probability_are_left_out(tmp_path, vocabulary):
    (target,) = read(tmp_path, vocabulary, {"strings": {" the king": 0, " the fox": 1, " fox": 0.0}})
    assert target.answers.texts == [" the fox"]
    assert (target.answers.probs, target.answers.cells, target.entropy) == ([1.0], [0], 0.0)


@pytest.mark.parametrize("values", [{"percent": [33, 66]}, {"counts": [1, 2]}, {"probs": [0.3333, 0.6663]}])
def test_values_of_every_kind_are_normalised(values, tmp_path, vocabulary):
    (target,) = read(tmp_path, vocabulary, {"strings": list(BOTH)} | values)
    assert sum(target.answers.probs) == pytest.approx(1.0, abs=1e-12)
    assert target.answers.probs == pytest.approx([1 / 3, 2 / 3], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_has_its_end(kind, tmp_path, vocabularies):
    vocabulary = vocabularies[kind]
    record = {"strings": {" the": 0.25, " the king": 0.75}}
    (text,) = read(tmp_path, vocabulary, record | {"end": ","})
    assert text.answers.texts == [" the", " the king"]
    table = vocabulary.token_bytes
    assert [b"".join(table[i] for i in ids) for ids in text.answers.ids] == [b" the,", b" the king,"]
    (token,) = read(tmp_path, vocabulary, record | {"end": True})
    eos = vocabulary.tokenizer.eos_token_id
    assert [ids[-1] for ids in token.answers.ids] == [eos, eos]
    assert [ids[:-1] for ids in token.answers.ids] == [vocabulary.continuation_ids(t) for t in record["strings"]]
    (named,) = read(tmp_path, vocabulary, record | {"end": vocabulary.tokenizer.eos_token})
    assert named.answers.ids == token.answers.ids


def test_beginnings_are_found_wherever_they_stand():
    rng = np.random.default_rng(0)
    for _ in range(300):
        answers = [rng.integers(0, 3, size=rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 6))]
        pairs = [
            (i, j)
            for i, a in enumerate(answers)
            for j, b in enumerate(answers)
            if i != j and len(a) <= len(b) and b[: len(a)] == a
        ]
        found = first_beginning(answers)
        assert (found in pairs) if pairs else found is None


# ---- cells ----

FORMS = {
    "objects": CELLS,
    "lists": {"cells": list(CELLS["cells"].values()), "probs": [0.75, 0.25]},
    "percent": {"cells": CELLS["cells"], "percent": {"no": 25, "yes": 75}},
    "counts": {"cells": CELLS["cells"], "counts": {"no": 1, "yes": 3}},
    "log_probs": {"cells": CELLS["cells"], "log_probs": {"yes": math.log(0.75), "no": math.log(0.25)}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "saved"])
def test_cells_hold_answers_of_any_length(form, suffix, tmp_path, vocabulary):
    record = FORMS[form] | {"name": "q", "task": "t", "weight": 2.0}
    if suffix == "jsonl":
        path = jsonl(tmp_path, record)
    elif suffix == "parquet":
        path = tmp_path / "x.parquet"
        pq.write_table(pa.Table.from_pylist([record]), path)
    else:
        path = tmp_path / "saved"
        datasets.Dataset.from_list([record]).save_to_disk(str(path))
    (target,) = FromFile(path).targets(vocabulary)
    answers = target.answers
    assert answers.names == ([" yes", " no, said"] if form == "lists" else ["yes", "no"])
    assert answers.texts == [" yes", " Yes", " three", " no, said"]
    assert spelled(vocabulary, answers) == answers.texts
    assert answers.cells == [0, 0, 0, 1]
    assert answers.probs == pytest.approx([0.75, 0.25])
    assert target.entropy == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert (target.task, target.weight, target.held_out) == ("user/t", 2.0, False)
    p = target.dense(SIZE).double().exp().numpy()
    expected = np.zeros(SIZE)
    for ids, mass in zip(answers.ids, [0.25, 0.25, 0.25, 0.25], strict=True):
        expected[ids[0]] += mass
    np.testing.assert_allclose(p, expected, rtol=1e-6, atol=0)


def test_cells_of_single_tokens_are_cells(tmp_path, vocabulary):
    (target,) = read(
        tmp_path, vocabulary, {"cells": {"a": [" three", " and"], "b": [" a"]}, "counts": {"a": 1, "b": 1}}
    )
    assert [len(ids) for ids in target.answers.ids] == [1, 1, 1]
    assert target.answers.cells == [0, 0, 1]


def test_answers_are_what_they_were_after_a_file(tmp_path, vocabulary):
    (target,) = read(tmp_path, vocabulary, CELLS | {"end": True})
    again = type(target.answers).from_json(target.answers.to_json())
    assert again == target.answers
    assert again.end is True


# ---- chats ----


def test_answers_of_a_chat_follow_what_the_template_writes(tmp_path, chatty):
    reply = [*CHAT, {"role": "assistant", "content": " I am the"}]
    plain, begun = read(
        tmp_path, chatty, {"name": "a", "strings": BOTH, "chat": CHAT}, {"name": "b", "strings": BOTH, "chat": reply}
    )
    assert json.loads(begun.chat) == reply
    assert (plain.before, plain.after) == (None, None)
    for target, after in ((plain, "\n<user> Who?\n<assistant>"), (begun, "\n<user> Who?\n<assistant> I am the")):
        start = chatty.encode(after)
        assert target.answers.ids == [chatty.encode(after + text)[len(start) :] for text in BOTH]


def test_a_chat_in_parquet(tmp_path, chatty):
    pq.write_table(pa.Table.from_pylist([{"name": "q", "chat": CHAT, "probs": {"a": 1.0}}]), tmp_path / "x.parquet")
    (target,) = FromFile(tmp_path / "x.parquet").targets(chatty)
    assert json.loads(target.chat) == CHAT
    assert target.answers is None


# ---- tasks ----


def test_tasks_of_rows(tmp_path, vocabulary):
    path = tmp_path / "x.csv"
    path.write_text(
        "name;string;prob;task;weight;split;end\n"
        "a; the king;0,5;t;2,5;;true\na; the;0,5;t;2,5;;true\nb; the;1;t;;test;.\nc; a;1;;;;\n"
    )
    a, b, c = FromFile(path, name="f").targets(vocabulary)
    assert [(t.task, t.weight, t.held_out) for t in (a, b, c)] == [
        ("f/t", 2.5, False), ("f/t", 1.0, True), (None, 1.0, False)
    ]  # fmt: skip
    assert [ids[-1] for ids in a.answers.ids] == [vocabulary.tokenizer.eos_token_id] * 2
    assert spelled(vocabulary, b.answers) == [" the."]
    assert c.answers is None


def test_tasks_of_objects(tmp_path, vocabulary):
    made = read(
        tmp_path, vocabulary, {"name": "a", "probs": {"a": 1}, "task": "t", "weight": 3, "split": "train", "x": 1},
        {"name": "b", "probs": {"a": 1}, "task": 7, "split": "test"}, {"name": "c", "probs": {"a": 1}, "weight": None},
    )  # fmt: skip
    assert [(t.task, t.weight, t.held_out) for t in made] == [
        ("user/t", 3.0, False), ("user/7", 1.0, True), (None, 1.0, False)
    ]  # fmt: skip
    assert [t.metadata for t in made] == [{"x": 1}, {}, {}]


# ---- mistakes ----

YES = {"a": [" yes"], "b": [" no"]}
ONE = {"a": 0.5, "b": 0.5}
MISTAKES = {
    "begins another": (
        {"name": "q", "strings": {" the": 0.5, " the king": 0.5}},
        'the answer \' the\' begins another one, \' the king\', .*; give "end": true',
    ),
    "begins another, ended": (
        {"strings": {" the": 0.5, " the king": 0.5}, "end": " "}, "begins another one, .*; give another \"end\""
    ),
    "begins one of another cell": ({"cells": {"a": [" the"], "b": [" the fox"]}, "probs": ONE}, "begins another one"),
    "twice": ({"strings": [" fox", " fox"], "probs": [0.5, 0.5]}, "string ' fox' is listed twice"),
    "empty answer": ({"strings": {"": 0.5, " fox": 0.5}}, "an answer is empty"),
    "twice in a cell": ({"cells": {"a": [" yes", " yes"], "b": [" no"]}, "probs": ONE}, "listed twice in the cell 'a'"),
    "in two cells": (
        {"cells": {"a": [" yes", " no"], "b": [" no"]}, "probs": ONE}, "answer ' no' is in two cells, 'a' and 'b'"
    ),
    "an empty cell": ({"cells": {"a": [" yes"], "b": []}, "probs": ONE}, r"a cell \('b'\) is empty; list its answers"),
    "an empty cell of a list": ({"cells": [[" yes"], []], "probs": [0.5, 0.5]}, "a cell is empty"),
    "an empty answer in a cell": ({"cells": {"a": [" yes"], "b": [""]}, "probs": ONE}, "an answer is empty"),
    "a cell that is a text": ({"cells": {"a": " yes", "b": [" no"]}, "probs": ONE}, "cell 'a' is ' yes', not a list"),
    "a cell of numbers": ({"cells": {"a": [1], "b": [" no"]}, "probs": ONE}, r"the cell 'a' is \[1\], not a list"),
    "a cell without a value": ({"cells": YES, "probs": {"a": 1.0}}, "the cell 'b' has no value in \"probs\""),
    "a value without a cell": ({"cells": YES, "probs": ONE | {"c": 0}}, "\"probs\" names 'c', which is not among"),
    "cells without values": ({"cells": YES}, '"cells" need "probs" beside them'),
    "cells beside a list": ({"cells": YES, "counts": [1, 2]}, '"cells" need "counts" beside them'),
    "unequal cells": ({"cells": [[" yes"]], "probs": [0.5, 0.5]}, '1 cells but 2 values in "probs"'),
    "cells and strings": ({"cells": YES, "strings": ["a"], "probs": ONE}, 'has "cells" and "strings"; keep one'),
    "no cells": ({"cells": {}, "probs": {}}, "the distribution is empty"),
    "the sum of cells": ({"cells": YES, "probs": {"a": 0.5, "b": 0.3}}, "of 'x-1' sum to 0.8, not to 1"),
    "the value of a cell": ({"cells": YES, "probs": {"a": 1.5, "b": "x"}}, "probability 1.5 of 'a' is not between"),
    "an end of tokens": ({"probs": {"a": 1.0}, "end": "."}, '"end" ends answers; list them as "strings" or in "cells"'),
    "an empty end": ({"strings": {" fox": 1.0}, "end": ""}, "end is ''; give the text that ends every answer, or true"),
    "no end": ({"strings": {" fox": 1.0}, "end": False}, "end is False; give"),
    "a task that is none": ({"probs": {"a": 1.0}, "task": ["t"]}, r"task is \['t'\]; give the task's name"),
    "an empty task": ({"probs": {"a": 1.0}, "task": ""}, "task is ''; give"),
    "a weight of 0": ({"probs": {"a": 1.0}, "weight": 0}, "weight is 0; it must be a positive number"),
    "a weight that is a text": ({"probs": {"a": 1.0}, "weight": "much"}, "weight is 'much'; it must be"),
    "a weight that is true": ({"probs": {"a": 1.0}, "weight": True}, "weight is True; it must be"),
    "an endless weight": ({"probs": {"a": 1.0}, "weight": 1e999}, "weight is inf; it must be"),
    "a split": ({"probs": {"a": 1.0}, "split": "dev"}, "split is 'dev'; it is \"train\", or \"test\""),
    "a context and a chat": (
        {"probs": {"a": 1.0}, "context": "b", "chat": CHAT}, 'has "context" and "chat"; keep one of them'
    ),
    "a chat without a prompt": ({"probs": {"a": 1.0}, "chat": CHAT[1:]}, "{prompt} stands 0 times"),
    "a chat without a template": ({"strings": BOTH, "chat": CHAT}, "has no chat template"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_with_file_and_line(case, tmp_path, vocabulary):
    record, message = MISTAKES[case]
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, vocabulary, record)
    assert str(error.value).startswith(f"{tmp_path / 'x.jsonl'}:1: ")
    assert "\n" not in str(error.value)


def test_an_answer_that_the_tokens_cannot_spell(tmp_path, vocabularies):
    for record in ({"strings": {" 漢字": 1.0}}, {"strings": {" 漢字": 1.0}, "context": {"after": "Yes,"}}):
        with pytest.raises(InputError, match=r"x.jsonl:1: the answer ' 漢字' cannot be spelled by this LM's tokens"):
            read(tmp_path, vocabularies["unigram"], record)


@pytest.mark.parametrize("record", [{"strings": BOTH}, CELLS])
def test_nothing_is_spread_over_answers(record, tmp_path, vocabulary):
    with pytest.raises(InputError, match=r"x.jsonl:1: rest: spread is for tokens, .*; set rest: zero"):
        read(tmp_path, vocabulary, record, rest="spread")


def test_cells_have_no_first_tokens(tmp_path, vocabulary):
    with pytest.raises(InputError, match=r"x.jsonl:1: cells are of whole answers; leave out strings: first_tokens"):
        read(tmp_path, vocabulary, CELLS, strings="first_tokens")


def test_a_tokenizer_without_an_end_token(tmp_path, tokenizer):
    own = copy.deepcopy(tokenizer)
    own.eos_token = None
    with pytest.raises(InputError, match=r'x.jsonl:1: "end" is true, but the LM has no end token; give the text'):
        read(tmp_path, Vocabulary(own, SIZE), {"strings": BOTH, "end": True})


def test_rows_of_a_distribution_agree_in_their_task(tmp_path, vocabulary):
    path = tmp_path / "x.csv"
    path.write_text("token,prob,task\na,0.5,t\nno,0.5,u\n")
    with pytest.raises(InputError, match=r"x.csv:3: task of 'x' is 'u' here but 't' at .*x.csv:2; it must be the same"):
        list(FromFile(path).targets(vocabulary))


def test_cells_of_rows_are_a_warning(tmp_path, vocabulary):
    path = tmp_path / "x.csv"
    path.write_text("token,prob,cells\na,1,b\n")
    (target,) = FromFile(path).targets(vocabulary)
    assert (
        target.metadata["note"] == f"{path}:1: chats and cells are not read from a row an answer; write them as JSONL"
    )
