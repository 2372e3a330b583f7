"""What is read from a file is what was written to it, or one line."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.records.checksum import TableDigest, table_digest
from lit_prompt.records.prompt_texts import read_texts, write_texts
from lit_prompt.records.prompts import prompts_digest, read_prompts, write_prompts
from lit_prompt.records.results import RESULTS, SCHEMA, prompts_of, read_results, with_prompts
from lit_prompt.records.tensors import load_tensors, write_tensors

TABLE = pa.table(
    {
        "text": ["a", None, "", "ü\n", "ab"],
        "number": [1.5, None, float("nan"), -0.0, 3.0],
        "count": pa.array([1, 2, None, 4, 5], pa.int64()),
        "flag": [True, False, None, True, True],
        "list": [[1.0], None, [], [2.0, 3.0], [4.0]],
        "nothing": [None] * 5,
    }
)
ROW = {
    "target_id": "a/0", "family": "a", "entropy": 1.0, "kl": 0.5, "kl_uniform": 2.0, "method": "soft",
    "prompt_length": 2, "lm": "here",
}  # fmt: skip
PROMPTS = {"a/0": np.arange(6, dtype=np.float32).reshape(2, 3), "a/1": np.ones((2, 3), dtype=np.float32)}
TEXTS = [("a/0", "once \u2028 upon", [1, 2]), ("a/1", "a time", [3, 4]), ("a/2", "", [5])]


def _digest(*parts):
    digest = TableDigest()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def test_a_checksum_does_not_depend_on_how_a_table_is_cut():
    whole = _digest(TABLE)
    assert _digest(TABLE[:2], TABLE[2:]) == _digest(*(TABLE[i : i + 1] for i in range(5))) == whole
    assert _digest(pa.concat_tables([TABLE[:3], TABLE[3:]])) == whole
    content = io.BytesIO()
    pq.write_table(TABLE, content, row_group_size=2)
    assert _digest(pq.read_table(content)) == whole


def test_every_change_of_a_table_changes_its_checksum():
    rows = TABLE.to_pylist()
    changed = [
        pa.Table.from_pylist([*rows[:i], rows[i] | {name: value}, *rows[i + 1 :]], TABLE.schema)
        for i, row in enumerate(rows)
        for name, value in {"text": "x", "number": 0.0, "count": 0, "flag": not row["flag"], "list": [0.0]}.items()
    ]
    changed += [TABLE[:4], TABLE.take([1, 0, 2, 3, 4]), TABLE.rename_columns([*TABLE.column_names[:-1], "none"])]
    changed += [TABLE.drop_columns(["nothing"]), TABLE.replace_schema_metadata({"a": "b"})]
    found = [table_digest(table) for table in [TABLE, *changed]]
    assert len(set(found)) == len(found)


def _flips(path, step=1):
    """Puts every ``step``-th byte of a file wrong, one after another, a bit each."""
    content = path.read_bytes()
    for place in range(0, len(content), step):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        yield place
    path.write_bytes(content)


def _never_another(path, read, step=1):
    """Counts the flips after which a file is refused; the others must not change what is read."""
    expected, refused = read(), 0
    for place in _flips(path, step):
        try:
            found = read()
        except InputError as error:
            refused += path.name in str(error) and "\n" not in str(error)
        else:
            assert found == expected, place
    return refused


def test_a_flipped_bit_of_a_table_is_found(tmp_path):
    table = pa.Table.from_pylist([ROW, ROW | {"target_id": "a/1", "kl": 1.25}], SCHEMA)
    path = RESULTS.write(table, tmp_path / "results.parquet")
    assert _never_another(path, lambda: RESULTS.read(path).to_pylist(), 13) > 300


def test_a_checksum_cannot_be_switched_off_by_one_bit(tmp_path):
    path = RESULTS.write(pa.Table.from_pylist([ROW], SCHEMA), tmp_path / "results.parquet")
    metadata = pq.read_schema(path).metadata
    changed = pa.Table.from_pylist([ROW | {"kl": 0.25}], SCHEMA)
    for name, value in ((b"sha256", None), (b"format", b"0"), (b"format", None)):
        kept = {k: v for k, v in {**metadata, name: value}.items() if v is not None}
        pq.write_table(changed.replace_schema_metadata(kept), path)
        with pytest.raises(InputError, match="its contents are not what was written"):
            RESULTS.read(path)


def test_a_flipped_bit_of_prompts_is_found(tmp_path):
    path = write_prompts(PROMPTS, {"lm": "here"}, tmp_path / "prompts.safetensors")

    def read():
        prompts, about = read_prompts(path)
        return {name: prompt.tolist() for name, prompt in prompts.items()}, about

    assert _never_another(path, read) == path.stat().st_size


def test_a_flipped_bit_of_texts_is_found(tmp_path):
    path = write_texts([(*each, None) for each in TEXTS], "of the prompts", tmp_path / "prompts.jsonl")
    ids = [name for name, _, _ in TEXTS]

    def read():
        return read_texts(path, ids, "of the prompts")

    assert read() == {name: [(text, 1.0)] for name, text, _ in TEXTS}
    assert _never_another(path, read) > path.stat().st_size - 20  # but for spaces between
    lines = path.read_text(encoding="utf-8").split("\n")
    for wrong in (lines[:2], [*lines[1:]], [lines[1], lines[0], lines[2]], []):
        path.write_text("\n".join(wrong), encoding="utf-8")
        with pytest.raises(InputError, match=r"prompts\.jsonl"):
            read()
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=r"prompts\.jsonl:1: its contents"):
        read_texts(path, ids, "of other prompts")


def test_texts_of_a_former_version_are_read(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"target_id": i, "text": text, "ids": ids}) + "\n" for i, text, ids in TEXTS))
    assert read_texts(path, ["a/0", "a/1", "a/2"], None)["a/1"] == [("a time", 1.0)]


TENSORS = {"a": torch.arange(100.0), "b": {"c": [1, "x"]}}


def _tensors(path):
    found = load_tensors(path, "do this")
    return found["a"].tolist(), found["b"]


def test_a_flipped_bit_of_tensors_is_found(tmp_path):
    path = tmp_path / "last.ckpt"
    write_tensors(TENSORS, path)
    assert _tensors(path) == (TENSORS["a"].tolist(), TENSORS["b"])
    assert _never_another(path, lambda: _tensors(path)) == path.stat().st_size
    for content in (b"", b"no zip", path.read_bytes()[:-100], path.read_bytes()[:-1], path.read_bytes() + b"0"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"last\.ckpt is truncated or no checkpoint .*; do this$"):
            _tensors(path)


def test_other_records_are_not_taken_for_those_that_were_written(tmp_path):
    """An archive that is whole, with the checksum of another."""
    path, other = tmp_path / "last.ckpt", tmp_path / "other.ckpt"
    write_tensors(TENSORS, path)
    write_tensors(TENSORS | {"a": TENSORS["a"] + 1}, other)
    path.write_bytes(other.read_bytes()[:-64] + path.read_bytes()[-64:])
    with pytest.raises(InputError, match=r"last\.ckpt: its contents are not what was written \(checksum\); do this$"):
        _tensors(path)


def test_tensors_of_a_former_version_are_read(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(TENSORS, path)
    assert _tensors(path) == (TENSORS["a"].tolist(), TENSORS["b"])


def test_damaged_tensors_of_a_former_version_are_one_line_or_as_they_were(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(TENSORS, path)
    content = path.read_bytes()
    directory = content.index(b"PK\1\2")
    said = []
    for place in [*range(0, directory, 5), *range(directory, len(content))]:
        for bit in range(8) if place > directory else (place % 8,):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                _tensors(path)
            except InputError as error:
                said.append(str(error))
    assert len(said) > 1000
    assert not any("\n" in line for line in said)


def test_results_are_read_with_the_prompts_that_they_are_of(tmp_path):
    checksum = prompts_digest(PROMPTS, {})
    write_prompts({"a/0": PROMPTS["a/0"] + 1}, {}, tmp_path / "prompts.safetensors")
    prompts = write_prompts(PROMPTS, {}, tmp_path / "prompts-1.safetensors")
    table = with_prompts(pa.Table.from_pylist([ROW], SCHEMA), checksum)
    path = RESULTS.write(table, tmp_path / "results.parquet")
    assert prompts_of(read_results(path, tmp_path)) == checksum
    prompts.unlink()
    with pytest.raises(InputError, match=r"results\.parquet: the prompts that these numbers are of are not in"):
        read_results(path, tmp_path)
