"""Files of results, of this version, of earlier and of later ones."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lit_prompt.errors import InputError
from lit_prompt.records.results import RESULTS, SCHEMA, result_table

COLUMNS = {
    "target_id": ["t4", "t1", "t2", "t0"],
    "family": ["f", "f", "g", "g"],
    "entropy": [1.0, 2.0, 3.0, 0.0],
    "kl": [0.25, None, 1.5, 0.1],
    "kl_uniform": [4.0] * 4,
    "reverse_kl": [0.1, None, float("inf"), 0.2],
    "method": ["soft"] * 4,
    "prompt_length": [5] * 4,
    "lm": ["here"] * 4,
}
WANTED = [
    "target_id", "family", "partner_of", "entropy", "kl", "kl_floor", "excess", "kl_uniform", "kl_unprompted",
    "prompt_entropy", "reverse_kl", "js", "tv", "method", "prompt_length", "context_before", "context_after",
    "prompt_text", "kl_text", "steps", "forward_passes", "seconds", "stop_reason", "seed", "lm", "lm_fingerprint",
]  # fmt: skip


@pytest.mark.parametrize("name", WANTED)
def test_the_schema_has_the_column(name):
    assert SCHEMA.names.count(name) == 1


def test_a_table_joins_batches_and_fills_with_null():
    table = result_table([COLUMNS, {"target_id": ["x"], "kl": [0.5]}])
    assert table.schema == SCHEMA
    assert table["target_id"].to_pylist() == ["t4", "t1", "t2", "t0", "x"]
    assert table["kl"].to_pylist() == [*COLUMNS["kl"], 0.5]
    assert table["family"].to_pylist() == ["f", "f", "g", "g", None]
    assert table["kl_floor"].null_count == 5


def test_no_batch_makes_an_empty_table():
    table = result_table([])
    assert (table.schema, len(table)) == (SCHEMA, 0)


def test_a_written_table_is_read_back(tmp_path):
    table = result_table([COLUMNS])
    path = RESULTS.write(table, tmp_path / "results.parquet")
    assert pq.read_table(path).equals(table)
    assert [p.name for p in tmp_path.iterdir()] == ["results.parquet"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = RESULTS.write(pa.table({"a": [1]}), tmp_path / "results.parquet")

    def fail(table, where, **options):
        where.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        RESULTS.write(pa.table({"a": [2]}), path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.parquet"]
    assert pq.read_table(path)["a"].to_pylist() == [1]


def test_a_file_names_its_format_and_is_read_as_it_was(tmp_path):
    path = RESULTS.write(result_table([COLUMNS]), tmp_path / "~results.parquet")
    assert pq.read_schema(path).metadata[b"format"] == b"2"
    assert RESULTS.read(path).equals(result_table([COLUMNS]))


def test_a_file_of_before_formats_had_versions_is_read(tmp_path):
    table = result_table([COLUMNS]).drop_columns(["kl_floor"])
    pq.write_table(table, tmp_path / "results.parquet")
    read = RESULTS.read(tmp_path / "results.parquet")
    assert read.schema == SCHEMA
    assert read["kl_floor"].null_count == 4
    assert read["kl"].to_pylist() == COLUMNS["kl"]


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "results.parquet"
    pq.write_table(result_table([COLUMNS]).replace_schema_metadata({"format": "3"}), path)
    with pytest.raises(InputError, match=r"^\S+results.parquet was written by a newer lit_prompt \(format 3; .*\)$"):
        RESULTS.read(path)
