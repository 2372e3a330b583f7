"""Arrays that are kept: the very ones that were written, or none."""

import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from lit_prompt.records import arrays
from lit_prompt.records.arrays import ArrayCache

ABOUT = {"what": "texts", "ids": (1, 2), "seed": 3}
FOUND = {"ids": np.arange(6).reshape(2, 3), "features": np.linspace(0.0, 1.0, 8, dtype=np.float32)}


def same(found, expected=FOUND):
    return (
        found is not None
        and found.keys() == expected.keys()
        and all(found[name].dtype == x.dtype and np.array_equal(found[name], x) for name, x in expected.items())
    )


@pytest.fixture
def folder(tmp_path):
    """Holds one entry."""
    ArrayCache(tmp_path / "lm").put(ABOUT, FOUND)
    return tmp_path / "lm"


def test_what_is_read_is_what_was_written(folder):
    assert same(ArrayCache(folder).get(ABOUT))
    assert same(ArrayCache(folder).get({**ABOUT, "ids": [1, 2]}))
    assert ArrayCache(folder).get({**ABOUT, "seed": 4}) is None
    assert ArrayCache(None).get(ABOUT) is None
    assert len([*folder.iterdir()]) == 1


def test_another_version_makes_its_own(folder, monkeypatch):
    monkeypatch.setattr(arrays, "__version__", "newer")
    assert ArrayCache(folder).get(ABOUT) is None
    monkeypatch.undo()
    monkeypatch.setattr(arrays, "_VERSION", "3")
    assert ArrayCache(folder).get(ABOUT) is None


def _flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _of_another_key(path):
    ArrayCache(path.parent).put({**ABOUT, "seed": 4}, {name: x + 1 for name, x in FOUND.items()})
    (other,) = [entry for entry in path.parent.iterdir() if entry != path]
    other.replace(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no safetensors"),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: _flipped(path, -1),
        lambda path: _flipped(path, -40),
        lambda path: _flipped(path, 20),
        lambda path: save_file(FOUND, path),
        lambda path: save_file(FOUND, path, metadata={"format": "2"}),
        _of_another_key,
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "foreign", "cut", "longer", "last", "middle", "header", "bare", "format", "key", "folder"],
)
def test_a_damaged_or_foreign_file_is_as_good_as_none(folder, damage):
    (path,) = folder.iterdir()
    damage(path)
    assert ArrayCache(folder).get(ABOUT) is None
    if path.is_file():
        ArrayCache(folder).put(ABOUT, FOUND)
        assert same(ArrayCache(folder).get(ABOUT))


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = ArrayCache(tmp_path / "file" / "lm")
    for seed in range(3):
        cache.put({**ABOUT, "seed": seed}, FOUND)
    assert cache.get(ABOUT) is None
    assert caplog.text.count("what the LM gives is not kept") == 1


def test_who_only_reads_adds_nothing(folder):
    reader = ArrayCache(folder, write=False)
    reader.put({**ABOUT, "seed": 4}, FOUND)
    assert not reader.takes(0)
    assert same(reader.get(ABOUT))
    assert len([*folder.iterdir()]) == 1


def test_large_entries_are_not_kept_and_old_ones_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST", sum(x.nbytes for x in FOUND.values()))
    cache = ArrayCache(tmp_path)
    cache.put(ABOUT, FOUND | {"more": np.zeros(1)})
    assert not [*tmp_path.iterdir()]
    cache.put({**ABOUT, "seed": 0}, FOUND)
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(arrays, "MOST", 3 * path.stat().st_size + 100)
    for seed in range(1, 6):
        cache.put({**ABOUT, "seed": seed}, FOUND)
    assert [cache.get({**ABOUT, "seed": seed}) is not None for seed in range(6)] == [False] * 3 + [True] * 3


def test_processes_that_write_and_make_room_at_the_same_time(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(arrays, "MOST", 4000)
    wrong = []

    def work():
        cache = ArrayCache(tmp_path)
        for round_ in range(60):
            about = {**ABOUT, "seed": round_ % 12}
            found = cache.get(about)
            wrong.extend([found] if found is not None and not same(found) else [])
            cache.put(about, FOUND)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert not caplog.text
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
