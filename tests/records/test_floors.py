"""Floors that several processes keep in one file."""

import math
import threading

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lit_prompt import __version__
from lit_prompt.errors import InputError
from lit_prompt.records.floors import FloorCache, KnownFloor, refuse_impossible_floors


def floors(writer, count):
    return {f"{writer}/{i}": KnownFloor(float(i), i + 1e-4, i + 1.0) for i in range(count)}


def test_writers_at_the_same_time_do_not_spoil_the_file(tmp_path):
    path = tmp_path / "floors.parquet"
    FloorCache(path).put(floors("first", 100))

    def write(writer):
        for size in range(20, 1200, 20):
            FloorCache(path).put(floors(writer, size))

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        # no moment without the floors that were there before both
        seen = FloorCache(path)
        assert all(seen.get(key) == floor for key, floor in floors("first", 100).items())
    for writer in writers:
        writer.join()
    assert [file.name for file in tmp_path.iterdir()] == ["floors.parquet"]


def test_floors_without_a_checksum_and_those_of_a_newer_format_are_not_used(tmp_path):
    path = tmp_path / "floors.parquet"
    FloorCache(path).put(floors("a", 3))
    table = pq.read_table(path)
    for metadata in ({"format": None, "sha256": None}, {"format": "1", "sha256": None}, {"format": "3"}):
        kept = {k: v for k, v in ({"lit_prompt": __version__, "format": "2"} | metadata).items() if v is not None}
        pq.write_table(table.replace_schema_metadata(kept), path)
        assert FloorCache(path).get("a/0") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"kl_floor": 2.0}, {"kl_floor": -0.1}, {"kl_floor": math.nan}, {"kl_ball": math.inf}, {"kl_sphere": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_floors_that_cannot_be_are_not_used_and_named(tmp_path, caplog, changed):
    path = tmp_path / "floors.parquet"
    FloorCache(path).put({"a": KnownFloor(1.0, 1.0 + 1e-4, 1.5)})
    assert FloorCache(path).get("a") is not None
    FloorCache(path).put({"b": KnownFloor(**({"kl_floor": 1.0, "kl_ball": 1.5, "kl_sphere": 1.5} | changed))})
    assert FloorCache(path).get("a") is None
    assert str(path) in caplog.text
    assert "floors are solved again" in caplog.text


def test_a_floor_that_was_raised_in_the_file_is_not_used(tmp_path, caplog):
    path = tmp_path / "floors.parquet"
    FloorCache(path).put(floors("a", 3))
    table = pq.read_table(path)
    raised = table.set_column(1, "kl_floor", pc.add(table["kl_floor"], 1.0))
    pq.write_table(raised, path)
    assert FloorCache(path).get("a/0") is None
    assert "its contents are not what was written (checksum)" in caplog.text


def test_a_floor_above_a_kl_that_was_reached_is_an_error():
    def rows(kl):
        return [{"target_id": "a/0", "kl": kl, "kl_floor": 1.0}, {"target_id": "a/1", "kl": None, "kl_floor": 3.0}]

    for kl in (1.0, 1.0 - 1e-7, 2.0, math.inf, math.nan):  # at its floor, up to rounding, or above it
        refuse_impossible_floors(rows(kl), "there", "do this")
    with pytest.raises(
        InputError, match=r"^there: the floor of a/0, 1\.000000 nats, .* reached, 0\.900000.*; do this$"
    ):
        refuse_impossible_floors(rows(0.9), "there", "do this")
