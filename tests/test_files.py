"""Files that are whole or not there, and names that are free."""

import pytest

from lit_prompt.files import free_path, replaced_whole


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with replaced_whole(path) as staging:
            assert staging.parent == tmp_path  # a move within a file system is one step
            staging.write_text(text[:3])
            assert not path.exists() or path.read_text() == "first"
            staging.write_text(text)
        assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    def run_out_of_space(path):
        with replaced_whole(path) as staging:
            staging.write_text("half")
            raise OSError("disk full")

    path = tmp_path / "a.txt"
    path.write_text("first")
    for name in ("a.txt", "b.txt"):
        with pytest.raises(OSError, match="disk full"):
            run_out_of_space(tmp_path / name)
    with pytest.raises(FileNotFoundError), replaced_whole(path):
        pass  # nothing was written
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_free_path_never_names_what_exists(tmp_path):
    found = []
    for _ in range(4):
        path = free_path(tmp_path, "results.parquet")
        assert not path.exists()
        path.touch()
        found.append(path.name)
    assert found == ["results.parquet", "results-1.parquet", "results-2.parquet", "results-3.parquet"]


def test_free_path_does_not_confuse_names(tmp_path):
    (tmp_path / "results.parquet").touch()
    assert free_path(tmp_path, "results.png").name == "results.png"
    (tmp_path / "results-1.parquet").mkdir()
    assert free_path(tmp_path, "results.parquet").name == "results-2.parquet"
