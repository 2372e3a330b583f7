"""A target that is stated: the same as that of a file with the same answers."""

import json
import math

import numpy as np
import pytest

from lit_prompt.data import TargetSet
from lit_prompt.data.families import FromFile, Given
from lit_prompt.errors import InputError
from lit_prompt.lm import Vocabulary

SIZE = 320


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary(tokenizer, SIZE)


def made(vocabulary, probs, **options):
    (target,) = Given(probs, **options).targets(vocabulary)
    return target


@pytest.mark.parametrize("probs", [{" three": 0.25, " and": 0.75}, {" the king": 0.25, " fox": 0.25, " three": 0.5}])
def test_is_what_a_file_gives(probs, tmp_path, vocabulary):
    record = {"name": "0", "strings": probs, "context": {"before": "One", "after": " day"}, "end": "."}
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    (expected,) = FromFile(tmp_path / "x.jsonl", name="given").targets(vocabulary)
    found = made(vocabulary, probs, before="One", after=" day", end=".")
    assert (found.target_id, found.family, found.texts) == ("given/0", "given", expected.texts)
    assert (found.answers, found.entropy, found.metadata) == (expected.answers, expected.entropy, expected.metadata)
    assert found.log_probs.tolist() == expected.log_probs.tolist()


def test_answers_of_one_token_are_tokens(vocabulary):
    target = made(vocabulary, {" three": 0.25, " and": 0.75})
    assert target.answers is None
    ids = [vocabulary.token_id(text) for text in (" three", " and")]
    np.testing.assert_allclose(target.dense(SIZE).exp().numpy()[ids], [0.25, 0.75], rtol=1e-6)


def test_probabilities_are_divided_by_their_sum(vocabulary):
    target = made(vocabulary, {" three": 0.3333, " and": 0.6662})
    assert target.dense(SIZE).double().exp().sum().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ({" three": 0.5, " and": 0.4}, "family given: probs sum to 0.9, not to 1 (within 0.001); give every answer"),
        ({}, "family given: probs sum to 0, not to 1"),
        ({" three": 1.5, " and": -0.5}, "family given: probability 1.5 of ' three' is not between 0 and 1"),
        ({" three": math.nan}, "family given: probability nan of ' three'"),
        ({"": 1.0}, "family given: "),
        ({" the": 0.5, " the king": 0.5}, "family given: the answer ' the' begins another one"),
    ],
)
def test_a_mistake_is_one_line_without_a_file(probs, message, vocabulary):
    with pytest.raises(InputError) as error:
        made(vocabulary, probs)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_is_a_family_like_any_other(tmp_path, vocabulary):
    families = [Given({" three": 0.5, " and": 0.5}, name="coin"), Given({" the king": 0.1, " fox": 0.9})]
    targets = (target for family in families for target in family.targets(vocabulary))
    written = TargetSet.write(tmp_path / "set", targets, SIZE, vocabulary.fingerprint)
    assert written.target_id == ["coin/0", "given/0"]
