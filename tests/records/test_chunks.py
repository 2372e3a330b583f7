"""Files of chunks: which one counts, and what is wrong with them."""

import pytest
import torch

from lit_prompt.errors import InputError
from lit_prompt.records import chunks as module
from lit_prompt.records.chunks import VERSION, ChunkFiles, read_found, read_state

FOUND = {"tasks": [3, 4], "kl": torch.tensor([0.5, torch.inf])}
STATE = {"moments": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def files(tmp_path):
    return ChunkFiles(tmp_path / "chunks")


def names(files, steps):
    return files.newest(steps)


def test_a_chunk_is_read_as_it_was_written(files):
    files.finish(3, 20, FOUND, STATE)
    assert files.is_finished(3, 20)
    assert not files.is_finished(3, 10)
    assert not files.is_finished(2, 20)
    (path,) = files.folder.glob("chunk_*")
    assert path.name == "chunk_3.steps_20.zip"
    found = read_found(path)
    assert found.keys() == {"format", "tasks", "kl"}
    assert found["tasks"] == FOUND["tasks"]
    assert torch.equal(found["kl"], FOUND["kl"])
    assert torch.equal(read_state(path)["moments"], STATE["moments"])


def test_the_end_of_a_search_removes_what_was_under_way(files):
    assert files.begun(0) is None
    files.keep(0, FOUND, STATE)
    files.keep(0, FOUND | {"tasks": [7]}, STATE)
    assert read_found(files.begun(0))["tasks"] == [7]
    assert not files.is_finished(0, 20)
    files.finish(0, 20, FOUND, STATE)
    assert files.begun(0) is None
    assert [path.name for path in files.folder.glob("chunk_*")] == ["chunk_0.steps_20.zip"]


def test_there_need_be_no_folder(files):
    assert files.newest(20) == {}
    assert files.begun(0) is None
    assert not files.is_finished(0, 20)


def test_the_newest_has_gone_furthest_up_to_the_end(files):
    for chunk, steps in ((0, 10), (0, 20), (1, 10), (3, 20), (10, 20), (2, 9)):
        files.finish(chunk, steps, FOUND, STATE)
    for chunk in (1, 3, 4):
        files.keep(chunk, FOUND, STATE)
    for name in ("chunk_5.steps_20.zip.tmp", ".chunk_5.steps_20.zip", "chunk_x.steps_20.zip", "chunk_5.zip"):
        (files.folder / name).touch()
    assert names(files, 20) == {
        0: "chunk_0.steps_20.zip",
        1: "chunk_1.under_way.zip",  # takes 10 steps further
        2: "chunk_2.steps_9.zip",
        3: "chunk_3.steps_20.zip",  # what is under way beside the end is of another process, or was left
        4: "chunk_4.under_way.zip",
        10: "chunk_10.steps_20.zip",
    }
    assert [*files.newest(20)] == [0, 1, 2, 3, 4, 10]
    assert names(files, 30)[3] == "chunk_3.under_way.zip"
    assert names(files, 30)[0] == "chunk_0.steps_20.zip"


@pytest.mark.parametrize("read", [read_found, read_state])
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other"])
def test_damage_is_one_line(files, read, damage):
    files.keep(0, FOUND, STATE)
    path = files.begun(0)
    content = bytearray(path.read_bytes())
    tensor = FOUND["kl"] if read is read_found else STATE["moments"]
    place = bytes(content).index(tensor.numpy().tobytes())
    flipped = bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]])
    path.write_bytes({"cut": content[:-30], "empty": b"", "flipped": flipped, "other": b"no archive" * 20}[damage])
    with pytest.raises(InputError, match=r"chunk_0\.under_way\.zip.* is damaged .*remove it.*fit --run") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_part_that_lacks_is_damage(files, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "chunk_0.under_way.zip", "w") as archive:
        archive.writestr("state", b"")
    with pytest.raises(InputError, match="is damaged"):
        read_found(tmp_path / "chunk_0.under_way.zip")


def test_a_file_that_went_is_named(files):
    with pytest.raises(InputError, match=r"chunk_0.*cannot be read \(No such file or directory\)"):
        read_found(files.folder / "chunk_0.steps_20.zip")


def test_a_newer_format_is_refused(files, monkeypatch):
    monkeypatch.setattr(module, "VERSION", VERSION + 1)
    files.keep(0, FOUND, STATE)
    monkeypatch.undo()
    with pytest.raises(InputError, match=rf"newer lit_prompt \(format {VERSION + 1}; this one reads up to {VERSION}\)"):
        read_found(files.begun(0))


def test_a_write_that_fails_leaves_what_was_there(files, monkeypatch):
    files.keep(0, FOUND, STATE)
    before = files.begun(0).read_bytes()

    def fail(state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "tensor_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        files.finish(0, 20, FOUND, STATE)
    assert [path.name for path in files.folder.glob("chunk_*")] == ["chunk_0.under_way.zip"]
    assert files.begun(0).read_bytes() == before
