"""The files of a run's chunks."""

import shutil

import pytest
import torch

from lit_prompt.records.chunks import ChunkFiles, read_found, read_state


@pytest.fixture
def files(tmp_path):
    return ChunkFiles(tmp_path / "chunks")


def test_what_was_written_is_found_and_nothing_else_is_left(files):
    files.keep(3, {"tasks": [3]}, {"made": 1})
    assert files.finished(10) == set()
    for chunk in (0, 3):
        files.finish(chunk, 10, {"tasks": [chunk]}, {"x": torch.arange(chunk)})
    files.finish(1, 5, {"tasks": [1]}, {})
    files.close()
    names = sorted(path.name for path in files.folder.iterdir())
    assert names == ["chunk_0.steps_10.zip", "chunk_1.steps_5.zip", "chunk_3.steps_10.zip"]
    assert files.finished(10) == {chunk for chunk in range(4) if files.is_finished(chunk, 10)} == {0, 3}
    path = files.folder / files.newest(10)[3]
    assert read_found(path)["tasks"] == [3]
    assert read_state(path)["x"].tolist() == [0, 1, 2]


def test_a_folder_that_vanishes_is_made_anew(files):
    files.finish(0, 10, {}, {})
    shutil.rmtree(files.folder)
    files.finish(1, 10, {}, {})
    assert files.finished(10) == {1}


def test_it_leaves_nothing_beside_its_files_when_it_goes(tmp_path):
    files = ChunkFiles(tmp_path)
    files.finish(0, 10, {}, {})
    del files
    assert [path.name for path in tmp_path.iterdir()] == ["chunk_0.steps_10.zip"]
