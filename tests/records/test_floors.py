"""Floors that several processes keep in one file."""

import threading

import pyarrow.parquet as pq

from lit_prompt.records.floors import FloorCache, KnownFloor


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


def test_floors_without_a_format_are_kept_and_those_of_a_newer_one_are_not_used(tmp_path):
    path = tmp_path / "floors.parquet"
    FloorCache(path).put(floors("a", 3))
    table = pq.read_table(path)
    for version, known in ((None, floors("a", 1)["a/0"]), ("1", floors("a", 1)["a/0"]), ("2", None)):
        written = {} if version is None else {"format": version}
        metadata = {b"lit_prompt": table.schema.metadata[b"lit_prompt"], **written}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        assert FloorCache(path).get("a/0") == known
